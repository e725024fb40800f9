"""Plain eager PyTorch twins of the ops: what a user would write from the paper, nothing folded, nothing fused."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from vsae_fast.models.vsae import VSAE

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


@torch.no_grad()
def importance_impute(
    model: VSAE,
    mean: torch.Tensor,
    scale: torch.Tensor,
    x: torch.Tensor,
    mask: torch.Tensor,
    noise: torch.Tensor,
    hidden: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Importance-sampled imputation: batch norms and every Linear run as they are."""
    z = mean + scale * noise.unsqueeze(1)  # [K, N, L]
    mask_logits, output = model.decode(z, hidden)
    layout = model.layout
    log_scale = model.decoders.log_scale()
    if set(layout.widths) == {1}:  # a table of numbers: one attribute a column
        density = -0.5 * ((x - output) / log_scale.exp()) ** 2 - log_scale - HALF_LOG_TWO_PI
        log_likelihood, expected = (density * mask).sum(-1), output
    else:
        log_likelihood, blocks = z.new_zeros(z.shape[:2]), []
        for a, kind in enumerate(layout.kinds):
            columns = slice(layout.starts[a], layout.starts[a + 1])
            out, target = output[..., columns], x[:, columns]
            if kind == "categorical":
                log_p = functional.log_softmax(out, -1)
                density, out = log_p * target, log_p.exp()
            else:
                ls = log_scale[columns]
                density = -0.5 * ((target - out) / ls.exp()) ** 2 - ls - HALF_LOG_TWO_PI
            log_likelihood = log_likelihood + density.sum(-1) * mask[:, a]
            blocks.append(out)
        expected = torch.cat(blocks, -1)
    log_mask = -functional.binary_cross_entropy_with_logits(mask_logits, mask.expand_as(mask_logits), reduction="none")
    log_prior = -0.5 * z**2
    log_proposal = -0.5 * noise.unsqueeze(1) ** 2 - scale.log()
    log_weight = log_likelihood + log_mask.sum(-1) + (log_prior - log_proposal).sum(-1)
    weight = torch.softmax(log_weight, 0)
    imputed = torch.where(layout.expand(mask) > 0, x, (weight.unsqueeze(-1) * expected).sum(0))
    evidence = torch.logsumexp(log_weight, 0) - math.log(noise.shape[0])
    return imputed, evidence, 1 / (weight**2).sum(0)
