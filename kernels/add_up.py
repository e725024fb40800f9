"""Sums over the first axis, compensated (Neumaier 1974): what tiles of rows leave of a gradient.

Arguments and grid are those of ``csrc/cuda/add_up.cu``, with ``BLOCK`` sums to a program.
"""

import triton
import triton.language as tl


@triton.jit
def add_up(n_parts, n, parts, out, BLOCK: tl.constexpr):
    """``out[i]`` is the sum of ``n_parts`` floats, ``n`` apart."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    at = parts + i
    total = tl.zeros([BLOCK], tl.float32)
    lost = tl.zeros([BLOCK], tl.float32)
    for _ in range(n_parts):
        value = tl.load(at, mask=i < n, other=0.0)
        following = total + value
        kept = following - total
        lost += (total - (following - kept)) + (value - kept)
        total = following
        at += n
    tl.store(out + i, total + lost, mask=i < n)
