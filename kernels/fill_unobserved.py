"""fill_unobserved: the observed data, noise or zeros in its holes, and the mask behind it; and the way back.

Arguments and grids are those of ``csrc/cuda/fill_unobserved.cu``, with ``BLOCK`` floats to a program.
"""

import triton
import triton.language as tl


@triton.jit
def fill_unobserved(
    n_rows, n_columns, n_attributes, attribute, x, mask, noise, noise_step, filled, BLOCK: tl.constexpr
):
    """``noise_step`` floats lie from a row's noise to the next one's; ``noise`` is None for zeros."""
    width = n_columns + n_attributes
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    row, c = at // width, at % width
    inside = row < n_rows
    datum = inside & (c < n_columns)
    own = tl.load(attribute + c, mask=datum, other=0)
    a = tl.where(datum, own, c - n_columns)
    observed = tl.load(mask + row * n_attributes + a, mask=inside, other=0.0)
    value = tl.load(x + row * n_columns + c, mask=datum & (observed > 0), other=0.0)
    if noise is not None:
        value += tl.load(noise + row * noise_step + c, mask=datum & (observed <= 0), other=0.0)
    tl.store(filled + at, tl.where(datum, value, observed), mask=inside)


@triton.jit
def fill_unobserved_backward(
    n_rows, n_columns, n_attributes, attribute, mask, gradient, x_gradient, BLOCK: tl.constexpr
):
    """Gradient of x: that of the filled row where it is observed, 0 where it is not."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    row, c = at // n_columns, at % n_columns
    inside = row < n_rows
    own = row * n_attributes + tl.load(attribute + c, mask=inside, other=0)
    observed = tl.load(mask + own, mask=inside, other=0.0) > 0
    value = tl.load(gradient + row * (n_columns + n_attributes) + c, mask=inside & observed, other=0.0)
    tl.store(x_gradient + at, value, mask=inside)
