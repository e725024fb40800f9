"""Launches of csrc/cuda/elbo.cu."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch

from vsae_fast.cuda.add_up import add_up
from vsae_fast.cuda.compiler import Launch, load
from vsae_fast.cuda.dense import THREADS
from vsae_fast.cuda.tables import layout_tables

MOST_SAMPLES = 1024  # kMostSamples

Gradients = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def _arguments(
    output: torch.Tensor,
    log_scale: torch.Tensor,
    mask_logits: torch.Tensor,
    target: torch.Tensor,
    target_variance: torch.Tensor | None,
    mask: torch.Tensor,
    attribute_weight: torch.Tensor,
    mean: torch.Tensor,
    log_variance: torch.Tensor,
    noise: torch.Tensor | None,
    attribute_start: list[int],
    attribute_kind: list[int],
) -> list[Any]:
    n_samples, n_rows, n_columns = output.shape
    widths = tuple(end - begin for begin, end in pairwise(attribute_start))
    tensors = (
        log_scale, output, mask_logits, target, target_variance, mask, attribute_weight, mean, log_variance, noise,
    )  # fmt: skip
    return [
        n_samples, n_rows, n_columns, mask.shape[1], mean.shape[1],
        *layout_tables(widths, tuple(attribute_kind), output.device),
        *(None if tensor is None else tensor.contiguous() for tensor in tensors),
    ]  # fmt: skip


def run(launch: Launch, output: torch.Tensor, *rest: Any) -> torch.Tensor:
    """Launch the kernel; the arguments are those of the op :func:`vsae_fast.ops.elbo.elbo`, but for its threads."""
    bound = output.new_empty(output.shape[1])
    arguments = _arguments(output, *rest)
    if output.shape[1]:
        launch("elbo", (output.shape[1], 1), [*arguments, bound])
    return bound


def run_backward(
    launch: Launch, launch_sum: Launch, gradient: torch.Tensor, output: torch.Tensor, *rest: Any
) -> Gradients:
    """Launch the kernel of the gradients: of output, log_scale, mask logits, mean and log-variance."""
    _, mask_logits, _, _, _, _, mean, *_ = rest
    arguments = _arguments(output, *rest)
    n_rows = output.shape[1]
    of_output, of_logits = (torch.empty_like(t, memory_format=torch.contiguous_format) for t in (output, mask_logits))
    of_mean, of_log_variance = mean.new_empty(mean.shape), mean.new_empty(mean.shape)
    of_scale = output.new_empty(n_rows, output.shape[2])
    if n_rows:
        results = [of_output, of_scale, of_logits, of_mean, of_log_variance]
        launch("elbo_backward", (n_rows, 1), [*arguments, gradient.contiguous(), *results])
    return of_output, add_up(launch_sum, of_scale), of_logits, of_mean, of_log_variance


def elbo(output: torch.Tensor, *rest: Any) -> torch.Tensor:
    """:func:`run` on the device of ``output``; the last argument, of threads, is for other backends.

    Raises
    ------
    ValueError
        More samples than shared memory has room for.
    """
    n_samples = output.shape[0]
    if n_samples > MOST_SAMPLES:
        raise ValueError(f"backend='cuda' of elbo takes at most {MOST_SAMPLES} samples, got {n_samples}; use fewer")
    return run(load("elbo", "", output.device, THREADS).launch, output, *rest[:-1])


def elbo_backward(gradient: torch.Tensor, output: torch.Tensor, *rest: Any) -> Gradients:
    """:func:`run_backward` on the device of ``output``."""
    kernels, sums = (load(name, "", output.device, THREADS).launch for name in ("elbo", "add_up"))
    return run_backward(kernels, sums, gradient, output, *rest[:-1])
