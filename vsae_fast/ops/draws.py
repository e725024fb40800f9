"""Where training takes its random numbers from: a torch generator, or the streams that the C++ trainer draws."""

from __future__ import annotations

import math
from typing import Protocol

import torch

from vsae_fast import _native

LINE = 16  # floats in a line of csrc/core/training_step.h; rows of stream numbers are padded to whole lines


class Draws(Protocol):
    """A source of random tensors; ``like`` gives dtype and device."""

    def normal(self, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """Standard normal numbers."""

    def uniform(self, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """Uniform numbers on [0, 1)."""


class TorchDraws:
    """Numbers of a :class:`torch.Generator`, on its device."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def normal(self, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, generator=self.generator, dtype=like.dtype, device=like.device)

    def uniform(self, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """Uniform numbers on [0, 1)."""
        return torch.rand(shape, generator=self.generator, dtype=like.dtype, device=like.device)


class StreamDraws:
    """The numbered streams of one seed, as csrc/cpu/random_stream.h draws them: every call takes the next stream.

    The reference objectives draw from it what the C++ trainer draws, so that both can be compared step by step.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.number = 0

    def normal(self, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """Standard normal numbers: single precision, whatever the dtype."""
        return self._draw(_native.fill_normal, shape, like)

    def uniform(self, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """Uniform numbers on [0, 1): 24 bits."""
        return self._draw(_native.fill_uniform, shape, like)

    def _draw(self, fill: _native.Fill, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        columns = -(-shape[-1] // LINE) * LINE
        numbers = torch.empty(math.prod(shape[:-1]) * columns + LINE, dtype=torch.float32)
        address = numbers.data_ptr()
        shift = (-address % 64) // 4  # kernels write whole lines of 64 bytes
        fill(self.seed, self.number, address + 4 * shift, numbers.numel() - LINE)
        self.number += 1
        rows = numbers[shift : shift + numbers.numel() - LINE].view(*shape[:-1], columns)
        return rows[..., : shape[-1]].to(like)
