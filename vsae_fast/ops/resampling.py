"""Sampling-importance-resampling (Rubin 1987): rows drawn from p(x_u | x_o, m), given the samples' log-weights.

A sample of z is chosen with its share of the weights, and x_u is drawn given it. Draw j of a row takes the uniform
numbers of :func:`vsae_fast.ops.philox.uniforms`: the first chooses the sample, the third and those after it belong to
the columns.
"""

from __future__ import annotations

import math

import torch

from vsae_fast.ops.folded_decoders import FoldedDecoders
from vsae_fast.ops.layout import gather_group
from vsae_fast.ops.philox import uniforms


def choose(log_weight: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Numbers (N, J) of the samples that draws take, from log-weights (N, K) and uniform numbers (N, J)."""
    cumulative = torch.exp(log_weight.double() - log_weight.amax(1, keepdim=True)).cumsum(1)
    chosen = torch.searchsorted(cumulative, cumulative[:, -1:] * uniform, right=True)
    return chosen.clamp(max=log_weight.shape[1] - 1)


def draw_given(output: torch.Tensor, decoders: FoldedDecoders, uniform: torch.Tensor) -> torch.Tensor:
    """Draws of x (N, J, D) given the decoders' outputs (N, J, D); ``uniform`` has a number for each column."""
    draws = torch.empty_like(output)
    for group in decoders.layout.groups(output.device):
        if group.kind == "numerical":
            u = gather_group(uniform, group, 0.5)
            scale = gather_group(decoders.log_scale, group, 0.0).exp()
            values = gather_group(output, group, 0.0) + scale * torch.special.ndtri(u).to(output.dtype)
        else:
            first = uniform[..., group.columns[:, 0]]  # [N, J, G]
            p = torch.softmax(gather_group(output, group, -math.inf).double(), -1).cumsum(-1)
            last = decoders.layout.attribute_widths(output.device)[group.members] - 1
            level = torch.searchsorted(p, first.unsqueeze(-1) * p[..., -1:], right=True)[..., 0]
            values = torch.nn.functional.one_hot(torch.minimum(level, last), group.width).to(output.dtype)
        real = group.columns < decoders.layout.n_columns
        draws[..., group.columns[real]] = values[..., real]
    return draws


def resample(
    log_weight: torch.Tensor,
    mean: torch.Tensor,
    scale: torch.Tensor,
    x: torch.Tensor,
    mask: torch.Tensor,
    noise: torch.Tensor,
    decoders: FoldedDecoders,
    *,
    context: torch.Tensor | None,
    n_draws: int,
    row_id: torch.Tensor,
    seed: int,
) -> torch.Tensor:
    """Draws from samples that a kernel has weighted and thrown away: those that are chosen are decoded again.

    They are few beside all samples, so that plain PyTorch will do.

    Parameters
    ----------
    log_weight : torch.Tensor, shape (N, K)
        Up to a constant of each row.
    mean, scale, context : torch.Tensor
        With an axis of proposals, see :func:`vsae_fast.ops.importance_impute.importance_impute`.
    x, mask, noise, decoders, n_draws, row_id, seed
        See there.

    Returns
    -------
    torch.Tensor, shape (N, n_draws, D)
    """
    per_proposal = noise.shape[0] // mean.shape[1]
    n_chunk = decoders.rows_at_once(n_draws)
    parts = [x.new_empty(0, n_draws, x.shape[1])]
    for begin in range(0, x.shape[0], n_chunk):
        rows = torch.arange(begin, min(begin + n_chunk, x.shape[0]), device=x.device)
        uniform = uniforms(seed, row_id[rows], n_draws, x.shape[1] + 2)
        chosen = choose(log_weight[rows], uniform[..., 0])  # [N', J]
        of_draw = rows.unsqueeze(1), chosen // per_proposal
        z = mean[of_draw] + scale[of_draw] * noise[chosen]
        _, output = decoders.decode(z, None if context is None else context[of_draw])
        draws = draw_given(output, decoders, uniform[..., 2:])
        observed = decoders.layout.expand(mask[rows]).unsqueeze(1) > 0
        parts.append(torch.where(observed, x[rows].unsqueeze(1), draws))
    return torch.cat(parts)
