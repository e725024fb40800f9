"""Phase 2's samples of the unobserved attributes, reduced to what the expected bound needs (appendix D).

For s = 1..S: ``z_s ~ q(z | x_o, m)``, ``x_s ~ p(x | z_s)``; the result is the mean and variance of numerical columns
and the class frequencies of categorical ones. Samples are drawn in small blocks: nothing of size N x S x D is kept.
"""

from __future__ import annotations

import torch

from vsae_fast.ops.draws import Draws
from vsae_fast.ops.folded_decoders import FoldedDecoders
from vsae_fast.ops.layout import gather_group

BLOCK = 10  # samples decoded at once; csrc/cpu/network_sampling.cpp draws in the same blocks


def sample_data(output: torch.Tensor, decoders: FoldedDecoders, draws: Draws) -> torch.Tensor:
    """Draw x from p(x | z) for decoder outputs (..., D): Gaussian values and one-hot levels."""
    x = torch.zeros_like(output)
    kinds = decoders.layout.kinds
    normal = draws.normal(tuple(output.shape), output) if "numerical" in kinds else None
    uniform = draws.uniform(tuple(output.shape), output) if "categorical" in kinds else None
    for group in decoders.layout.groups(output.device):
        if normal is not None and group.kind == "numerical":
            mean = gather_group(output, group, 0.0)
            scale = gather_group(decoders.log_scale, group, 0.0).exp()
            values = mean + scale * gather_group(normal, group, 0.0)
        elif uniform is not None:
            logits = gather_group(output, group, -torch.inf)
            tiny = torch.finfo(torch.float32).tiny
            gumbel = -torch.log(-torch.log(gather_group(uniform, group, 0.5).clamp(min=tiny)))
            values = torch.nn.functional.one_hot((logits + gumbel).argmax(-1), group.width).to(output.dtype)
        real = group.columns < decoders.layout.n_columns
        x[..., group.columns[real]] = values[..., real]
    return x


@torch.no_grad()
def sample_moments(
    mean: torch.Tensor,
    scale: torch.Tensor,
    decoders: FoldedDecoders,
    *,
    n_samples: int,
    draws: Draws,
    context: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw samples of x from the current model and return their first two moments.

    Parameters
    ----------
    mean, scale : torch.Tensor, shape (N, L)
        The proposal.
    decoders : FoldedDecoders
        In evaluation mode; no gradient reaches them.
    n_samples : int
        ``S``, 100 in the paper.
    draws : Draws
    context : torch.Tensor, shape (N, C), optional
        Added to the data decoder's first layer.

    Returns
    -------
    moment : torch.Tensor, shape (N, D)
        Means of numerical columns, class frequencies of categorical ones.
    variance : torch.Tensor, shape (N, D)
        Population variance of the samples (used for numerical columns only).
    """
    n_rows = mean.shape[0]
    total = mean.new_zeros(n_rows, decoders.layout.n_columns)
    square = torch.zeros_like(total)
    for begin in range(0, n_samples, BLOCK):
        count = min(BLOCK, n_samples - begin)
        noise = draws.normal((count, *mean.shape), mean)
        _, output = decoders.decode(mean + scale * noise, context)
        x = sample_data(output, decoders, draws)  # [S', N, D]
        total += x.sum(0)
        square += (x**2).sum(0)
    moment = total / n_samples
    return moment, (square / n_samples - moment**2).clamp(min=0)
