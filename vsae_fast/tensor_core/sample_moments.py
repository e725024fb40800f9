"""Launches kernels/sample_moments.py."""

from __future__ import annotations

from typing import Any

import torch

from vsae_fast.ops.folded_decoders import FoldedDecoders
from vsae_fast.tensor_core.device import launcher
from vsae_fast.tensor_core.importance_impute import PackedModel, bias_of_rows, pack


def constants(model: PackedModel) -> dict[str, Any]:
    """What the kernel is compiled for; half of importance_impute's samples at once, as it spills with all (sm_90)."""
    return model.constants | {"BLOCK": 32, "BFLOAT16": False, "num_warps": 4, "num_stages": 2}


def sample_moments(
    mean: torch.Tensor,
    scale: torch.Tensor,
    noise: torch.Tensor,
    context: torch.Tensor | None,
    decoders: FoldedDecoders,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance over the samples of E[x | z], both (N, D); products in tf32.

    Parameters
    ----------
    mean, scale : torch.Tensor, shape (N, L)
    noise : torch.Tensor, shape (S, N, L)
    context : torch.Tensor, shape (N, C), optional
    decoders : FoldedDecoders
    """
    model = pack(decoders)
    n_samples, n_rows, _ = noise.shape
    moment, spread = (mean.new_empty(n_rows, decoders.layout.n_columns) for _ in range(2))
    if n_rows:
        parameters, number_column, _, level_start, level_width, _ = model.tensors
        inputs = [t.contiguous() for t in (noise, mean, scale, bias_of_rows(model, (n_rows,), context))]
        launcher("sample_moments", **constants(model))(
            "sample_moments",
            (n_rows, 1),
            [parameters, number_column, level_start, level_width, *inputs, moment, spread, n_rows, n_samples],
        )
    return moment, spread
