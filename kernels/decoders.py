"""Both decoders over a block of samples on tensor cores: what importance_impute and sample_moments share.

All widths are padded to powers of two, at least 16, with zeros in weights and biases; see
``vsae_fast/tensor_core/importance_impute.py``.
"""

import triton
import triton.language as tl
from vsae_fast.kernels.arithmetic import leaky, product


@triton.jit
def matrix(parameters, offset, rows: tl.constexpr, columns: tl.constexpr, stride: tl.constexpr):
    """Corner of a matrix whose rows are ``stride`` apart."""
    at = tl.arange(0, rows)[:, None] * stride + tl.arange(0, columns)[None, :]
    return tl.load(parameters + offset + at)


@triton.jit
def vector(parameters, offset, columns: tl.constexpr):
    """So many numbers from a place on."""
    return tl.load(parameters + offset + tl.arange(0, columns))


@triton.jit
def _dense(parameters, h, LAYER: tl.constexpr, SLOPE: tl.constexpr, BFLOAT16: tl.constexpr):
    weight = matrix(parameters, LAYER[2], LAYER[0], LAYER[1], LAYER[1])
    h = product(h, weight, BFLOAT16) + vector(parameters, LAYER[3], LAYER[1])[None, :]
    return leaky(h, SLOPE) if LAYER[4] else h


@triton.jit
def _first_layer(
    parameters, z, pi, first, FIRST: tl.constexpr, OUT: tl.constexpr, L_PAD: tl.constexpr, M_PAD: tl.constexpr,
    SLOPE: tl.constexpr, BFLOAT16: tl.constexpr, bias_of_row,
):  # fmt: skip
    """Outputs first..first+OUT-1 of the first data layer."""
    h = product(z, matrix(parameters, FIRST[1] + first, L_PAD, OUT, FIRST[0]), BFLOAT16)
    h += product(pi, matrix(parameters, FIRST[2] + first, M_PAD, OUT, FIRST[0]), BFLOAT16)
    h += tl.load(bias_of_row + first + tl.arange(0, OUT))[None, :]
    return leaky(h, SLOPE) if FIRST[3] else h


@triton.jit
def mask_logits(parameters, z, MASK_LAYERS: tl.constexpr, SLOPE: tl.constexpr, BFLOAT16: tl.constexpr):
    """Mask decoder's output, [samples, M_PAD]."""
    h = z
    for i in tl.static_range(len(MASK_LAYERS)):
        h = _dense(parameters, h, MASK_LAYERS[i], SLOPE, BFLOAT16)
    return h


@triton.jit
def mask_probabilities(logits, M: tl.constexpr, M_PAD: tl.constexpr):
    """What the data decoder sees of the mask; 0 in the padding."""
    return tl.where((tl.arange(0, M_PAD) < M)[None, :], 1.0 / (1.0 + tl.exp(-logits)), 0.0)


@triton.jit
def last_hidden(
    parameters, z, pi, bias_of_row, FIRST: tl.constexpr, DATA_LAYERS: tl.constexpr, L_PAD: tl.constexpr,
    M_PAD: tl.constexpr, SLOPE: tl.constexpr, BLOCK: tl.constexpr, PART: tl.constexpr, BFLOAT16: tl.constexpr,
):  # fmt: skip
    """Data decoder's last hidden vectors, [samples, H_PAD]."""
    if len(DATA_LAYERS) == 0:
        h = _first_layer(parameters, z, pi, 0, FIRST, FIRST[0], L_PAD, M_PAD, SLOPE, BFLOAT16, bias_of_row)
    else:
        # Parts of the first layer are used up as they come: no product has two wide sides in shared memory.
        h = tl.zeros([BLOCK, DATA_LAYERS[0][1]], tl.float32)
        for c in range(0, FIRST[0], PART):
            part = _first_layer(parameters, z, pi, c, FIRST, PART, L_PAD, M_PAD, SLOPE, BFLOAT16, bias_of_row)
            h += product(
                part,
                matrix(
                    parameters, DATA_LAYERS[0][2] + c * DATA_LAYERS[0][1], PART, DATA_LAYERS[0][1], DATA_LAYERS[0][1]
                ),
                BFLOAT16,
            )
        h += vector(parameters, DATA_LAYERS[0][3], DATA_LAYERS[0][1])[None, :]
        if DATA_LAYERS[0][4]:
            h = leaky(h, SLOPE)
        for i in tl.static_range(1, len(DATA_LAYERS)):
            h = _dense(parameters, h, DATA_LAYERS[i], SLOPE, BFLOAT16)
    return h


@triton.jit
def level_logits(
    parameters, h, a, H_PAD: tl.constexpr, LEVELS_PAD: tl.constexpr, LEVEL_WEIGHT: tl.constexpr,
    LEVEL_BIAS: tl.constexpr, BFLOAT16: tl.constexpr,
):  # fmt: skip
    """Logits of the a-th category, [samples, LEVELS_PAD], far below zero in the padding."""
    weight = matrix(parameters, LEVEL_WEIGHT + a * H_PAD * LEVELS_PAD, H_PAD, LEVELS_PAD, LEVELS_PAD)
    return product(h, weight, BFLOAT16) + vector(parameters, LEVEL_BIAS + a * LEVELS_PAD, LEVELS_PAD)[None, :]
