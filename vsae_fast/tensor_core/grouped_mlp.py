"""Launches of kernels/grouped_mlp.py."""

from __future__ import annotations

from typing import Any

import torch

from vsae_fast.cuda.compiler import Launch
from vsae_fast.cuda.dense import THREADS
from vsae_fast.cuda.grouped_mlp import Kernels, Layer, Tensors, few_enough_blocks, layers_with, run, run_backward
from vsae_fast.tensor_core.device import launcher
from vsae_fast.tensor_core.padding import padded

TILES = (16, 32)  # rows at once, which products on the way back are summed over; with 64 wide networks spill
INPUTS, OUTPUTS = 32, 64  # at once; as many as compile without spills, not measured


def layers_of(sizes: list[int], n_rows: int, n_groups: int) -> list[Layer]:
    """Layers from the first to the head, all with one tile."""
    return layers_with(sizes, few_enough_blocks(TILES, n_rows, n_groups))


def constants(layer: Layer) -> dict[str, int | bool]:
    """What the kernels are compiled for, warps and pipeline stages."""
    return {
        "IN": layer.n_in,
        "OUT": layer.n_out,
        "NORMALISED": layer.normalised,
        "HEAD": layer.head,
        "TILE": layer.tile,
        "IN_BLOCK": min(padded(layer.n_in), INPUTS),
        "OUT_BLOCK": min(padded(layer.n_out), OUTPUTS),
        "num_warps": 8 if layer.tile * layer.n_out > 1024 else 2,
        "num_stages": 3,
    }


def _launch_of(layer: Layer | None) -> Launch:
    return launcher("add_up", BLOCK=THREADS) if layer is None else launcher("grouped_mlp", **constants(layer))


KERNELS = Kernels(layers_of, _launch_of)


def grouped_mlp(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor, Tensors, Tensors]:
    """:func:`vsae_fast.cuda.grouped_mlp.run` with Triton's kernels; threads are for other backends."""
    return run(KERNELS, *arguments[:-1])


def grouped_mlp_backward(*arguments: Any) -> tuple[torch.Tensor, Tensors, Tensors, Tensors, Tensors]:
    """:func:`vsae_fast.cuda.grouped_mlp.run_backward` with Triton's kernels."""
    *given, _training, negative_slope, _n_threads = arguments
    return run_backward(KERNELS, *(*given, negative_slope))
