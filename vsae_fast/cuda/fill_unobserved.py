"""Launches of csrc/cuda/fill_unobserved.cu."""

from __future__ import annotations

import torch

from vsae_fast.cuda.compiler import Launch, load
from vsae_fast.cuda.dense import THREADS
from vsae_fast.cuda.tables import layout_tables


def run(
    launch: Launch, x: torch.Tensor, mask: torch.Tensor, noise: torch.Tensor | None, attribute_width: list[int]
) -> torch.Tensor:
    """Launch the kernel; see :func:`vsae_fast.ops.fill_unobserved.fill_unobserved`.

    Parameters
    ----------
    launch : callable
        See :func:`vsae_fast.cuda.importance_impute.run`.
    x, mask, noise : torch.Tensor
    attribute_width : list of int
    """
    n_rows, n_columns = x.shape
    filled = x.new_empty(n_rows, n_columns + mask.shape[1])
    attribute = _attribute(attribute_width, x.device)
    step = n_columns if noise is not None and noise.dim() == 2 and noise.shape[0] > 1 else 0
    inputs = [x.contiguous(), mask.contiguous(), None if noise is None else noise.contiguous(), step]
    if filled.numel():
        grid = (-(-filled.numel() // THREADS), 1)
        launch("fill_unobserved", grid, [n_rows, n_columns, mask.shape[1], attribute, *inputs, filled])
    return filled


def run_backward(
    launch: Launch, gradient: torch.Tensor, mask: torch.Tensor, attribute_width: list[int]
) -> torch.Tensor:
    """Launch the kernel of the gradient; see :func:`run`."""
    n_rows, n_attributes = mask.shape
    result = gradient.new_empty(n_rows, gradient.shape[1] - n_attributes)
    inputs = [_attribute(attribute_width, mask.device), mask.contiguous(), gradient.contiguous()]
    if result.numel():
        grid = (-(-result.numel() // THREADS), 1)
        launch("fill_unobserved_backward", grid, [n_rows, result.shape[1], n_attributes, *inputs, result])
    return result


def _attribute(attribute_width: list[int], device: torch.device) -> torch.Tensor:
    return layout_tables(tuple(attribute_width), (), device)[0]


def fill_unobserved(
    x: torch.Tensor, mask: torch.Tensor, noise: torch.Tensor | None, attribute_width: list[int]
) -> torch.Tensor:
    """:func:`run` on the device of ``x``."""
    return run(load("fill_unobserved", "", x.device, THREADS).launch, x, mask, noise, attribute_width)


def fill_unobserved_backward(gradient: torch.Tensor, mask: torch.Tensor, attribute_width: list[int]) -> torch.Tensor:
    """:func:`run_backward` on the device of ``mask``."""
    return run_backward(load("fill_unobserved", "", mask.device, THREADS).launch, gradient, mask, attribute_width)
