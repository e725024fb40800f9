"""elbo: the bound of a row by a program, and its gradients; the maths stands in ``csrc/cuda/elbo.cu``.

Arguments and grids are those of that file, but for ``log_weights`` [N, K], where the way back keeps the samples'
log-weights. ``LEVELS`` is the widest category's number of levels, rounded up to a power of two, and 0 where there is
none; ``COLUMNS``, ``ATTRIBUTES`` and ``LATENTS`` are how many of them are taken at once.
"""

import triton
import triton.language as tl
from vsae_fast.kernels.arithmetic import softplus

HALF_LOG_TWO_PI = tl.constexpr(0.91893853320467274)
CATEGORICAL = tl.constexpr(1)  # AttributeKind in csrc/core/importance_impute.h


@triton.jit
def _numbers(first, row, n_columns, n_attributes, attribute, kind, weight, COLUMNS: tl.constexpr):
    """Columns, whether they are numbers, their attributes' weights."""
    c = first + tl.arange(0, COLUMNS)
    inside = c < n_columns
    a = tl.load(attribute + c, mask=inside, other=0)
    number = inside & (tl.load(kind + a, mask=inside, other=CATEGORICAL) != CATEGORICAL)
    return c, number, tl.load(weight + row * n_attributes + a, mask=inside, other=0.0)


@triton.jit
def _mean_square(c, counts, row, n_columns, output, target, variance):
    """``(target - output)^2`` and variance of numbers, and the residual."""
    residual = tl.load(target + row * n_columns + c, mask=counts, other=0.0) - output
    square = residual * residual
    if variance is not None:
        square += tl.load(variance + row * n_columns + c, mask=counts, other=0.0)
    return square, residual


@triton.jit
def _categories(first, row, n_attributes, start, kind, weight, ATTRIBUTES: tl.constexpr, LEVELS: tl.constexpr):
    """Columns [attributes, levels] of categories that count, which of them there are, the attributes' weights."""
    a = first + tl.arange(0, ATTRIBUTES)
    inside = a < n_attributes
    own_weight = tl.load(weight + row * n_attributes + a, mask=inside, other=0.0)
    counts = inside & (tl.load(kind + a, mask=inside, other=0) == CATEGORICAL) & (own_weight != 0)
    begin = tl.load(start + a, mask=inside, other=0)
    width = tl.load(start + a + 1, mask=inside, other=0) - begin
    level = tl.arange(0, LEVELS)
    within = counts[:, None] & (level[None, :] < width[:, None])
    return begin[:, None] + level[None, :], within, own_weight


@triton.jit
def _shifted_logits(logits, within):
    """Logits less the largest of their category, sum of their exponentials; 0 and 1 where no category counts."""
    top = tl.max(tl.where(within, logits, -3.0e38), 1)
    shifted = tl.where(within, logits - top[:, None], 0.0)
    total = tl.sum(tl.where(within, tl.exp(shifted), 0.0), 1)
    return shifted, tl.where(total > 0, total, 1.0)


@triton.jit
def _log_weight(
    k, row, n_rows, n_columns, n_attributes, n_latent, attribute, start, kind, log_scale, output, mask_logits, target,
    variance, mask, weight, mean, log_variance, noise, COLUMNS: tl.constexpr, ATTRIBUTES: tl.constexpr,
    LEVELS: tl.constexpr, LATENTS: tl.constexpr,
):  # fmt: skip
    sample_row = k * n_rows + row
    result = 0.0
    for first in range(0, n_columns, COLUMNS):
        c, number, own_weight = _numbers(first, row, n_columns, n_attributes, attribute, kind, weight, COLUMNS)
        counts = number & (own_weight != 0)
        value = tl.load(output + sample_row * n_columns + c, mask=counts, other=0.0)
        square, _ = _mean_square(c, counts, row, n_columns, value, target, variance)
        scale = tl.load(log_scale + c, mask=counts, other=0.0)
        terms = own_weight * (-0.5 * square * tl.exp(-2 * scale) - scale - HALF_LOG_TWO_PI)
        result += tl.sum(tl.where(counts, terms, 0.0), 0)
    for first in range(0, n_attributes, ATTRIBUTES):
        a = first + tl.arange(0, ATTRIBUTES)
        inside = a < n_attributes
        logit = tl.load(mask_logits + sample_row * n_attributes + a, mask=inside, other=0.0)
        observed = tl.load(mask + row * n_attributes + a, mask=inside, other=0.0) > 0
        result -= tl.sum(tl.where(inside, softplus(tl.where(observed, -logit, logit)), 0.0), 0)
        if LEVELS:
            c, within, own_weight = _categories(first, row, n_attributes, start, kind, weight, ATTRIBUTES, LEVELS)
            logits = tl.load(output + sample_row * n_columns + c, mask=within, other=0.0)
            goal = tl.load(target + row * n_columns + c, mask=within, other=0.0)
            shifted, total = _shifted_logits(logits, within)
            result += tl.sum(own_weight * (tl.sum(goal * shifted, 1) - tl.sum(goal, 1) * tl.log(total)), 0)
    if noise is not None:
        for first in range(0, n_latent, LATENTS):
            latent = first + tl.arange(0, LATENTS)
            inside = latent < n_latent
            own_variance = tl.load(log_variance + row * n_latent + latent, mask=inside, other=0.0)
            e = tl.load(noise + sample_row * n_latent + latent, mask=inside, other=0.0)
            z = tl.load(mean + row * n_latent + latent, mask=inside, other=0.0) + tl.exp(0.5 * own_variance) * e
            result += tl.sum(0.5 * (e * e - z * z + own_variance), 0)
    return result


@triton.jit
def elbo(
    n_samples, n_rows, n_columns, n_attributes, n_latent, attribute, start, kind, log_scale, output, mask_logits,
    target, variance, mask, weight, mean, log_variance, noise, bound, COLUMNS: tl.constexpr, ATTRIBUTES: tl.constexpr,
    LEVELS: tl.constexpr, LATENTS: tl.constexpr,
):  # fmt: skip
    """The grid has a program for each row."""
    row = tl.program_id(0).to(tl.int64)
    top, total = -3.0e38, 0.0
    for k in range(n_samples):
        log_weight = _log_weight(
            k, row, n_rows, n_columns, n_attributes, n_latent, attribute, start, kind, log_scale, output, mask_logits,
            target, variance, mask, weight, mean, log_variance, noise, COLUMNS, ATTRIBUTES, LEVELS, LATENTS,
        )  # fmt: skip
        largest = tl.maximum(top, log_weight)
        total = total * tl.exp(top - largest) + tl.exp(log_weight - largest)
        top = largest
    result = top + tl.log(total / n_samples)
    if noise is None:
        for first in range(0, n_latent, LATENTS):
            latent = first + tl.arange(0, LATENTS)
            inside = latent < n_latent
            own_mean = tl.load(mean + row * n_latent + latent, mask=inside, other=0.0)
            own_variance = tl.load(log_variance + row * n_latent + latent, mask=inside, other=0.0)
            result -= tl.sum(0.5 * (own_mean * own_mean + tl.exp(own_variance) - 1 - own_variance), 0)
    tl.store(bound + row, result)


@triton.jit
def elbo_backward(
    n_samples, n_rows, n_columns, n_attributes, n_latent, attribute, start, kind, log_scale, output, mask_logits,
    target, variance, mask, weight, mean, log_variance, noise, gradient, of_output, of_log_scale, of_mask_logits,
    of_mean, of_log_variance, log_weights, COLUMNS: tl.constexpr, ATTRIBUTES: tl.constexpr, LEVELS: tl.constexpr,
    LATENTS: tl.constexpr,
):  # fmt: skip
    """The grid has a program for each row; ``gradient`` is that of the bounds."""
    row = tl.program_id(0).to(tl.int64)
    upstream = tl.load(gradient + row)
    log_weights += row * n_samples
    # The derivative of the bound by log-weight k is exp(log_weights[k] - shift).
    top, total = 0.0, 1.0
    if noise is not None:
        top, total = -3.0e38, 0.0
        for k in range(n_samples):
            log_weight = _log_weight(
                k, row, n_rows, n_columns, n_attributes, n_latent, attribute, start, kind, log_scale, output,
                mask_logits, target, variance, mask, weight, mean, log_variance, noise, COLUMNS, ATTRIBUTES, LEVELS,
                LATENTS,
            )  # fmt: skip
            tl.store(log_weights + k, log_weight)
            largest = tl.maximum(top, log_weight)
            total = total * tl.exp(top - largest) + tl.exp(log_weight - largest)
            top = largest
        tl.debug_barrier()  # all threads see them

    for first in range(0, n_columns, COLUMNS):
        c, number, own_weight = _numbers(first, row, n_columns, n_attributes, attribute, kind, weight, COLUMNS)
        counts = number & (own_weight != 0)
        precision = tl.exp(-2 * tl.load(log_scale + c, mask=counts, other=0.0))
        of_scale = tl.zeros([COLUMNS], tl.float32)
        for k in range(n_samples):
            factor = upstream
            if noise is not None:
                factor *= tl.exp(tl.load(log_weights + k) - top) / total
            at = (k * n_rows + row) * n_columns + c
            value = tl.load(output + at, mask=counts, other=0.0)
            square, residual = _mean_square(c, counts, row, n_columns, value, target, variance)
            share = tl.where(counts, factor * own_weight, 0.0)
            of_scale += share * (square * precision - 1)
            tl.store(of_output + at, share * residual * precision, mask=(c < n_columns) & (number | (own_weight == 0)))
        tl.store(of_log_scale + row * n_columns + c, of_scale, mask=c < n_columns)

    for first in range(0, n_attributes, ATTRIBUTES):
        a = first + tl.arange(0, ATTRIBUTES)
        inside = a < n_attributes
        observed = tl.load(mask + row * n_attributes + a, mask=inside, other=0.0) > 0
        for k in range(n_samples):
            factor = upstream
            if noise is not None:
                factor *= tl.exp(tl.load(log_weights + k) - top) / total
            sample_row = k * n_rows + row
            logit = tl.load(mask_logits + sample_row * n_attributes + a, mask=inside, other=0.0)
            slope = tl.where(observed, 1.0, 0.0) - 1.0 / (1.0 + tl.exp(-logit))
            tl.store(of_mask_logits + sample_row * n_attributes + a, factor * slope, mask=inside)
            if LEVELS:
                c, within, own_weight = _categories(first, row, n_attributes, start, kind, weight, ATTRIBUTES, LEVELS)
                logits = tl.load(output + sample_row * n_columns + c, mask=within, other=0.0)
                goal = tl.load(target + row * n_columns + c, mask=within, other=0.0)
                shifted, sum_of_levels = _shifted_logits(logits, within)
                p = tl.exp(shifted) / sum_of_levels[:, None]
                slopes = (factor * own_weight)[:, None] * (goal - tl.sum(goal, 1)[:, None] * p)
                tl.store(of_output + sample_row * n_columns + c, slopes, mask=within)

    for first in range(0, n_latent, LATENTS):
        latent = first + tl.arange(0, LATENTS)
        inside = latent < n_latent
        own_mean = tl.load(mean + row * n_latent + latent, mask=inside, other=0.0)
        own_variance = tl.load(log_variance + row * n_latent + latent, mask=inside, other=0.0)
        mean_slope = tl.zeros([LATENTS], tl.float32)
        variance_slope = tl.zeros([LATENTS], tl.float32)
        if noise is None:
            mean_slope -= upstream * own_mean
            variance_slope -= upstream * 0.5 * (tl.exp(own_variance) - 1)
        else:
            for k in range(n_samples):
                factor = upstream * tl.exp(tl.load(log_weights + k) - top) / total
                e = tl.load(noise + (k * n_rows + row) * n_latent + latent, mask=inside, other=0.0)
                deviation = tl.exp(0.5 * own_variance) * e
                mean_slope -= factor * (own_mean + deviation)
                variance_slope += factor * 0.5 * (1 - (own_mean + deviation) * deviation)
        tl.store(of_mean + row * n_latent + latent, mean_slope, mask=inside)
        tl.store(of_log_variance + row * n_latent + latent, variance_slope, mask=inside)
