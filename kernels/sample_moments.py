"""sample_moments on tensor cores: mean and variance of E[x | z] over samples of z, a program for each row."""

import triton
import triton.language as tl
from vsae_fast.kernels.arithmetic import product
from vsae_fast.kernels.decoders import last_hidden, level_logits, mask_logits, mask_probabilities


@triton.jit
def sample_moments(
    parameters,  # padded weights (in, out) and biases
    number_column,  # [numbers, padded] column of x
    level_start,  # [categories, padded] first column
    level_width,
    noise,  # [S, N, L]
    mean,  # [N, L]
    scale,
    context,  # [N, C], the bias of the first data layer in it
    moment,  # [N, D]; holds the sums of the numbers meanwhile
    spread,  # likewise of their squares
    n_rows,
    n_samples,
    L: tl.constexpr,
    M: tl.constexpr,
    D: tl.constexpr,
    C: tl.constexpr,
    NUMBERS: tl.constexpr,
    CATEGORIES: tl.constexpr,
    L_PAD: tl.constexpr,
    M_PAD: tl.constexpr,
    H_PAD: tl.constexpr,
    NUMBERS_PAD: tl.constexpr,  # whole blocks
    NUMBERS_BLOCK: tl.constexpr,
    CATEGORIES_PAD: tl.constexpr,
    LEVELS_PAD: tl.constexpr,  # of the widest category
    MASK_LAYERS: tl.constexpr,  # (in, out, weight, bias, active) of each, padded
    FIRST: tl.constexpr,  # (out, weight of z, weight of pi, active) of the first data layer
    DATA_LAYERS: tl.constexpr,  # the others
    NUMBER_WEIGHT: tl.constexpr,
    NUMBER_BIAS: tl.constexpr,
    LEVEL_WEIGHT: tl.constexpr,  # [categories, H, levels]
    LEVEL_BIAS: tl.constexpr,  # [categories, levels], far below zero in the padding
    SLOPE: tl.constexpr,
    BLOCK: tl.constexpr,  # samples at once
    PART: tl.constexpr,  # outputs of the first data layer at once, where another follows
    BFLOAT16: tl.constexpr,
):
    """Moments of one row; the grid has a program for each."""
    row = tl.program_id(0).to(tl.int64)
    latent = tl.arange(0, L_PAD)
    category, level = tl.arange(0, CATEGORIES_PAD), tl.arange(0, LEVELS_PAD)
    own_mean = tl.load(mean + row * L + latent, mask=latent < L, other=0.0)
    own_scale = tl.load(scale + row * L + latent, mask=latent < L, other=0.0)
    class_sum = tl.zeros([CATEGORIES_PAD, LEVELS_PAD], tl.float32)
    for begin in range(0, n_samples, BLOCK):
        # Sums of the block before are there for all threads; and weights are not held in registers across the loop.
        tl.debug_barrier()
        sample = begin + tl.arange(0, BLOCK)
        real = sample < n_samples
        e = tl.load(
            noise + (sample * n_rows + row)[:, None] * L + latent[None, :],
            mask=real[:, None] & (latent < L)[None, :],
            other=0.0,
        )
        z = own_mean[None, :] + own_scale[None, :] * e
        pi = mask_probabilities(mask_logits(parameters, z, MASK_LAYERS, SLOPE, BFLOAT16), M, M_PAD)
        h = last_hidden(
            parameters, z, pi, context + row * C, FIRST, DATA_LAYERS, L_PAD, M_PAD, SLOPE, BLOCK, PART, BFLOAT16
        )
        for first in range(0, NUMBERS, NUMBERS_BLOCK):
            number = first + tl.arange(0, NUMBERS_BLOCK)
            at_weight = tl.arange(0, H_PAD)[:, None] * NUMBERS_PAD + number[None, :]
            # Without its bias: it shifts the mean alone.
            output = product(h, tl.load(parameters + NUMBER_WEIGHT + at_weight), BFLOAT16)
            output = tl.where(real[:, None], output, 0.0)
            column = row * D + tl.load(number_column + number)
            there = (number < NUMBERS) & (begin > 0)
            total = tl.load(moment + column, mask=there, other=0.0) + tl.sum(output, 0)
            square = tl.load(spread + column, mask=there, other=0.0) + tl.sum(output * output, 0)
            tl.store(moment + column, total, mask=number < NUMBERS)
            tl.store(spread + column, square, mask=number < NUMBERS)
        for a in range(CATEGORIES):
            logits = level_logits(parameters, h, a, H_PAD, LEVELS_PAD, LEVEL_WEIGHT, LEVEL_BIAS, BFLOAT16)
            p = tl.exp(logits - tl.max(logits, 1)[:, None])
            share = tl.where(real, 1.0 / tl.sum(p, 1), 0.0)
            own = tl.sum(share[:, None] * p, 0)
            class_sum += tl.where((category == a)[:, None], own[None, :], 0.0)

    tl.debug_barrier()
    for first in range(0, NUMBERS, NUMBERS_BLOCK):
        number = first + tl.arange(0, NUMBERS_BLOCK)
        column = row * D + tl.load(number_column + number)
        average = tl.load(moment + column, mask=number < NUMBERS, other=0.0) / n_samples
        square = tl.load(spread + column, mask=number < NUMBERS, other=0.0) / n_samples
        bias = tl.load(parameters + NUMBER_BIAS + number)
        tl.store(moment + column, bias + average, mask=number < NUMBERS)
        tl.store(spread + column, tl.maximum(square - average * average, 0.0), mask=number < NUMBERS)
    if CATEGORIES:
        start = tl.load(level_start + category)
        column = row * D + start[:, None] + level[None, :]
        within = (category < CATEGORIES)[:, None] & (level[None, :] < tl.load(level_width + category)[:, None])
        tl.store(moment + column, class_sum / n_samples, mask=within)
        tl.store(spread + column, tl.zeros([CATEGORIES_PAD, LEVELS_PAD], tl.float32), mask=within)
