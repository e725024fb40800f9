"""Launches of kernels/elbo.py."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch

from vsae_fast.cuda.compiler import Launch
from vsae_fast.cuda.dense import THREADS
from vsae_fast.cuda.elbo import Gradients, run, run_backward
from vsae_fast.tensor_core.device import launcher
from vsae_fast.tensor_core.padding import power_of_two

AT_ONCE = 1024  # columns, latents, or attributes times levels; not measured
CATEGORICAL = 1


def blocks(n_columns: int, n_latent: int, attribute_start: list[int], attribute_kind: list[int]) -> dict[str, int]:
    """How many columns, attributes, levels and latents a program takes at once."""
    widths = [end - begin for begin, end in pairwise(attribute_start)]
    categories = [width for width, kind in zip(widths, attribute_kind, strict=True) if kind == CATEGORICAL]
    levels = power_of_two(max(categories)) if categories else 0
    return {
        "COLUMNS": min(power_of_two(n_columns), AT_ONCE),
        "ATTRIBUTES": min(power_of_two(len(widths)), max(AT_ONCE // max(levels, 1), 1)),
        "LEVELS": levels,
        "LATENTS": min(power_of_two(n_latent), AT_ONCE),
    }


def _launch(output: torch.Tensor, rest: Any) -> Launch:
    *_, mean, _log_variance, _noise, attribute_start, attribute_kind = rest
    launch = launcher("elbo", **blocks(output.shape[2], mean.shape[1], attribute_start, attribute_kind))

    def with_log_weights(kernel: str, grid: tuple[int, int], arguments: list[Any]) -> None:
        own = [output.new_empty(output.shape[1], output.shape[0])] if kernel == "elbo_backward" else []
        launch(kernel, grid, [*arguments, *own])

    return with_log_weights


def elbo(output: torch.Tensor, *rest: Any) -> torch.Tensor:
    """:func:`vsae_fast.cuda.elbo.run` with Triton's kernel; the last argument, of threads, is for other backends."""
    return run(_launch(output, rest[:-1]), output, *rest[:-1])


def elbo_backward(gradient: torch.Tensor, output: torch.Tensor, *rest: Any) -> Gradients:
    """:func:`vsae_fast.cuda.elbo.run_backward` with Triton's kernels."""
    sums = launcher("add_up", BLOCK=THREADS)
    return run_backward(_launch(output, rest[:-1]), sums, gradient, output, *rest[:-1])
