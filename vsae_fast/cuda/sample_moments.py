"""Shapes of csrc/cuda/sample_moments.cu for one model."""

from __future__ import annotations

import torch

from vsae_fast.cuda.compiler import Launch, load
from vsae_fast.cuda.dense import THREADS
from vsae_fast.cuda.importance_impute import CudaDecoders, rounded
from vsae_fast.ops.folded_decoders import FoldedDecoders


class CudaSampling(CudaDecoders):
    """Folded decoders as sample_moments is compiled for them."""

    def shared_bytes(self, tile: int) -> int:
        """Shared memory of a block; the sum of the constants at the top of the kernel."""
        own = rounded(self.n_numbers + self.n_logits) + rounded(self.n_numbers)
        return 4 * (self.decoder_floats(tile) + own)


def run(
    launch: Launch,
    model: CudaDecoders,
    mean: torch.Tensor,
    scale: torch.Tensor,
    noise: torch.Tensor,
    context: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Launch the kernel; returns mean and variance over the samples of E[x | z], both (N, D).

    Parameters
    ----------
    launch : callable
        See :func:`vsae_fast.cuda.importance_impute.run`.
    model : CudaSampling
    mean, scale : torch.Tensor, shape (N, L)
    noise : torch.Tensor, shape (S, N, L)
    context : torch.Tensor, shape (N, C), optional
    """
    n_samples, n_rows, _ = noise.shape
    moment, spread = (mean.new_empty(n_rows, model.decoders.layout.n_columns) for _ in range(2))
    if n_rows:
        tensors = (noise, mean, scale, context)
        inputs = [None if tensor is None else tensor.contiguous() for tensor in tensors]
        launch(
            "sample_moments",
            (n_rows, 1),
            [n_rows, n_samples, model.parameters, *model.tables(), *inputs, moment, spread],
        )
    return moment, spread


def sample_moments(
    mean: torch.Tensor,
    scale: torch.Tensor,
    noise: torch.Tensor,
    context: torch.Tensor | None,
    decoders: FoldedDecoders,
) -> tuple[torch.Tensor, torch.Tensor]:
    """:func:`run` on the device of ``mean``, compiled for it and the model if need be."""
    model = CudaSampling(decoders)
    module = load("sample_moments", model.prelude(), mean.device, THREADS)
    return run(module.launch, model, mean, scale, noise, context)
