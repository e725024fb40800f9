"""Counter-based random numbers, Philox4x32-10 (Salmon et al. 2011), as csrc/core/philox.h computes them."""

from __future__ import annotations

import torch

WORD = 0xFFFFFFFF


def philox(
    key: int, low: torch.Tensor, third: torch.Tensor, fourth: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Four words of 32 bits for every counter.

    Parameters
    ----------
    key : int
        64 bits.
    low, third, fourth : torch.Tensor of int64, shapes that broadcast
        The counter: 64 bits in ``low``, 32 in each of the others.

    Returns
    -------
    tuple of four torch.Tensor of int64, values in [0, 2^32)

    Examples
    --------
    >>> zero = torch.zeros((), dtype=torch.int64)
    >>> [hex(int(word)) for word in philox(0, zero, zero, zero)]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    low, third, fourth = torch.broadcast_tensors(low, third, fourth)
    c0, c1, c2, c3 = low & WORD, (low >> 32) & WORD, third & WORD, fourth & WORD
    k0, k1 = key & WORD, (key >> 32) & WORD
    for _ in range(10):
        a, b = 0xD2511F53 * c0, 0xCD9E8D57 * c2  # wraps modulo 2^64, which keeps all bits of the product
        c0, c1, c2, c3 = ((b >> 32) & WORD) ^ c1 ^ k0, b & WORD, ((a >> 32) & WORD) ^ c3 ^ k1, a & WORD
        k0, k1 = (k0 + 0x9E3779B9) & WORD, (k1 + 0xBB67AE85) & WORD
    return c0, c1, c2, c3


def open_uniform(high: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """Uniform on (0, 1) with 52 bits, float64, never 0 or 1, from two words."""
    return ((high << 20 | low >> 12).double() + 0.5) * 2.0**-52


def uniforms(seed: int, row_id: torch.Tensor, n_draws: int, count: int) -> torch.Tensor:
    """Numbers ``0..count-1`` of each draw of each row, shape (N, n_draws, count), float64."""
    row = row_id.view(-1, 1, 1)
    draw = torch.arange(n_draws, device=row_id.device).view(1, -1, 1)
    pair = torch.arange((count + 1) // 2, device=row_id.device).view(1, 1, -1)
    w0, w1, w2, w3 = philox(seed, row, draw, pair)
    both = torch.stack([open_uniform(w0, w1), open_uniform(w2, w3)], -1)  # [N, J, pairs, 2]
    return both.flatten(2)[..., :count]
