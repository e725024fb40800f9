"""Sizes that Triton can take: powers of two."""

from __future__ import annotations

LEAST_WIDTH = 16  # of a tensor-core product's sides


def power_of_two(n: int) -> int:
    """Next power of two, at least 1."""
    return 1 << max(n - 1, 0).bit_length()


def padded(width: int) -> int:
    """Next power of two, at least ``LEAST_WIDTH``."""
    return max(LEAST_WIDTH, power_of_two(width))
