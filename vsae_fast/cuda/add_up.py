"""Launches of csrc/cuda/add_up.cu."""

from __future__ import annotations

import torch

from vsae_fast.cuda.compiler import Launch
from vsae_fast.cuda.dense import THREADS


def add_up(launch: Launch, parts: torch.Tensor) -> torch.Tensor:
    """Compensated sum over the first axis, zeros where it is empty.

    Parameters
    ----------
    launch : callable
        See :func:`vsae_fast.cuda.importance_impute.run`.
    parts : torch.Tensor, contiguous, shape (parts, ...)
    """
    if parts.shape[0] == 1:
        return parts[0]
    if parts.numel() == 0:
        return parts.new_zeros(parts.shape[1:])
    result = parts.new_empty(parts.shape[1:])
    launch("add_up", (-(-result.numel() // THREADS), 1), [parts.shape[0], result.numel(), parts, result])
    return result
