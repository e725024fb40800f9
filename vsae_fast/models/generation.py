"""Draws of data from p(x | z)."""

from __future__ import annotations

import torch

from vsae_fast.ops.draws import Draws
from vsae_fast.ops.folded_decoders import FoldedDecoders
from vsae_fast.ops.layout import gather_group


def one_hot_draw(logits: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Draw one-hot levels from softmax(logits), shape (..., width), by Gumbel's trick."""
    tiny = torch.finfo(torch.float32).tiny
    gumbel = -torch.log(-torch.log(uniform.clamp(min=tiny)))
    return torch.nn.functional.one_hot((logits + gumbel).argmax(-1), logits.shape[-1]).to(logits.dtype)


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
            values = one_hot_draw(gather_group(output, group, -torch.inf), gather_group(uniform, group, 0.5))
        real = group.columns < decoders.layout.n_columns
        x[..., group.columns[real]] = values[..., real]
    return x
