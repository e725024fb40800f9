"""importance_impute on tensor cores: tf32 or bfloat16 products, float32 log-weights and sums; sm_80 and newer.

One program a row. The launcher (``vsae_fast/tensor_core/importance_impute.py``) packs the model; the maths stands in
``csrc/core/importance_impute.h``.
"""

import triton
import triton.language as tl
from vsae_fast.kernels.arithmetic import product, softplus
from vsae_fast.kernels.decoders import last_hidden, level_logits, mask_logits, mask_probabilities


@triton.jit
def importance_impute(
    parameters,  # padded weights (in, out) and biases
    number_column,  # [numbers, padded] column of x
    number_attribute,
    level_start,  # [categories, padded] first column
    level_width,
    level_attribute,
    scored_attribute,  # [scored, padded]
    noise,  # [K, L]
    mean,  # [N, P, L]
    scale,
    context,  # [N, P, C], the bias of the first data layer in it
    x,  # [N, D]
    mask,  # [N, M]
    target,  # [N, SCORED] of the scored numbers; see vsae_fast/cuda/scoring.py
    imputed,  # [N, D]
    log_evidence,  # [N] without what does not change with the samples
    effective_size,
    log_weights,  # [N, K] or None: every sample's, up to a constant of the row
    partial,  # [N, segments, 3 + H + levels] or None: sums of each segment, in place of the row's results
    level_first,  # [categories, padded] place of the first level among all levels
    per_proposal,
    first_sample,  # of each proposal, with which the first segment begins
    segment,  # samples of each proposal in a segment; all where there is one
    n_proposals,
    visible_weight,
    L: tl.constexpr,
    M: tl.constexpr,
    D: tl.constexpr,
    C: tl.constexpr,
    NUMBERS: tl.constexpr,
    CATEGORIES: tl.constexpr,
    H: tl.constexpr,
    LEVELS: tl.constexpr,  # of all categories
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
    SCORED: tl.constexpr,
    SCORED_PAD: tl.constexpr,  # whole blocks
    SCORED_BLOCK: tl.constexpr,
    SCORED_WEIGHT: tl.constexpr,
    SCORED_INVERSE: tl.constexpr,
    LEVEL_WEIGHT: tl.constexpr,  # [categories, H, levels]
    LEVEL_BIAS: tl.constexpr,  # [categories, levels], far below zero in the padding
    SLOPE: tl.constexpr,
    BLOCK: tl.constexpr,  # samples at once
    PART: tl.constexpr,  # outputs of the first data layer at once, where another follows
    BFLOAT16: tl.constexpr,
):
    """Impute one row, or sum up a segment of its samples; grid: rows, segments."""
    row = tl.program_id(0).to(tl.int64)
    start = first_sample + tl.program_id(1) * segment
    latent, attribute = tl.arange(0, L_PAD), tl.arange(0, M_PAD)
    category, level = tl.arange(0, CATEGORIES_PAD), tl.arange(0, LEVELS_PAD)

    reference = -3.0e38
    weight_sum = 0.0
    square_sum = 0.0
    hidden_sum = tl.zeros([H_PAD], tl.float32)
    class_sum = tl.zeros([CATEGORIES_PAD, LEVELS_PAD], tl.float32)

    for proposal in range(n_proposals):
        at = row * n_proposals + proposal
        bias_of_row = context + at * C
        for begin in range(0, segment, BLOCK):
            # Keeps the compiler from holding all weights, and the proposal, in registers across the loop.
            tl.debug_barrier()
            observed = tl.load(mask + row * M + attribute, mask=attribute < M, other=0.0) > 0
            own_mean = tl.load(mean + at * L + latent, mask=latent < L, other=0.0)
            own_scale = tl.load(scale + at * L + latent, mask=latent < L, other=1.0)
            constant = tl.sum(tl.log(own_scale) - 0.5 * own_mean * own_mean, 0)
            sample = start + begin + tl.arange(0, BLOCK)
            real = begin + tl.arange(0, BLOCK) < segment
            e = tl.load(
                noise + (proposal * per_proposal + sample)[:, None] * L + latent[None, :],
                mask=real[:, None] & (latent < L)[None, :],
                other=0.0,
            )
            z = tl.where((latent < L)[None, :], own_mean[None, :] + own_scale[None, :] * e, 0.0)
            square, linear = 0.5 - 0.5 * own_scale * own_scale, own_mean * own_scale
            log_weight = constant + tl.sum(e * (square[None, :] * e - linear[None, :]), 1)

            logits_of_mask = mask_logits(parameters, z, MASK_LAYERS, SLOPE, BFLOAT16)
            surprise = softplus(tl.where(observed[None, :], -logits_of_mask, logits_of_mask))
            log_weight -= tl.sum(tl.where((attribute < M)[None, :], surprise, 0.0), 1)
            pi = mask_probabilities(logits_of_mask, M, M_PAD)
            h = last_hidden(
                parameters, z, pi, bias_of_row, FIRST, DATA_LAYERS, L_PAD, M_PAD, SLOPE, BLOCK, PART, BFLOAT16
            )

            for first in range(0, SCORED, SCORED_BLOCK):
                number = first + tl.arange(0, SCORED_BLOCK)
                at_weight = tl.arange(0, H_PAD)[:, None] * SCORED_PAD + number[None, :]
                output = product(h, tl.load(parameters + SCORED_WEIGHT + at_weight), BFLOAT16)
                seen = tl.load(mask + row * M + tl.load(scored_attribute + number), mask=number < SCORED, other=0.0) > 0
                goal = tl.load(target + row * SCORED + number, mask=seen, other=0.0)
                distance = (goal[None, :] - output) * tl.load(parameters + SCORED_INVERSE + number)[None, :]
                terms = tl.where(seen[None, :], distance * distance, 0.0)
                log_weight -= 0.5 * visible_weight * tl.sum(terms, 1)

            for a in range(CATEGORIES):
                if tl.load(mask + row * M + tl.load(level_attribute + a)) > 0:
                    logits = level_logits(parameters, h, a, H_PAD, LEVELS_PAD, LEVEL_WEIGHT, LEVEL_BIAS, BFLOAT16)
                    top_logit = tl.max(logits, 1)
                    total = tl.log(tl.sum(tl.exp(logits - top_logit[:, None]), 1)) + top_logit
                    column = row * D + tl.load(level_start + a) + level
                    chosen = tl.load(x + column, mask=level < tl.load(level_width + a), other=0.0) > 0
                    log_weight += visible_weight * (tl.sum(tl.where(chosen[None, :], logits, 0.0), 1) - total)

            log_weight = tl.where(real, tl.maximum(log_weight, -3.0e38), -float("inf"))
            if log_weights is not None:
                at_sample = (row * n_proposals + proposal) * per_proposal + sample
                tl.store(log_weights + at_sample, log_weight, mask=real)
            top = tl.maximum(reference, tl.max(log_weight, 0))
            factor = tl.exp(reference - top)
            reference = top
            weights = tl.exp(log_weight - top)
            weight_sum = factor * weight_sum + tl.sum(weights, 0)
            square_sum = factor * factor * square_sum + tl.sum(weights * weights, 0)
            hidden_sum = factor * hidden_sum + tl.sum(weights[:, None] * h, 0)

            # Once more for unobserved categories: their probabilities count with weights that all attributes decide.
            class_sum *= factor
            for a in range(CATEGORIES):
                if tl.load(mask + row * M + tl.load(level_attribute + a)) <= 0:
                    logits = level_logits(parameters, h, a, H_PAD, LEVELS_PAD, LEVEL_WEIGHT, LEVEL_BIAS, BFLOAT16)
                    p = tl.exp(logits - tl.max(logits, 1)[:, None])
                    share = weights / tl.sum(p, 1)
                    own = tl.sum(share[:, None] * p, 0)
                    class_sum += tl.where((category == a)[:, None], own[None, :], 0.0)

    if partial is not None:
        to = partial + (row * tl.num_programs(1) + tl.program_id(1)) * (3 + H + LEVELS)
        tl.store(to, reference)
        tl.store(to + 1, weight_sum)
        tl.store(to + 2, square_sum)
        hidden = tl.arange(0, H_PAD)
        tl.store(to + 3 + hidden, hidden_sum, mask=hidden < H)
        if CATEGORIES:
            place = 3 + H + tl.load(level_first + category)[:, None] + level[None, :]
            within = (category < CATEGORIES)[:, None] & (level[None, :] < tl.load(level_width + category)[:, None])
            tl.store(to + place, class_sum, mask=within)
    else:
        for first in range(0, NUMBERS, NUMBERS_BLOCK):
            number = first + tl.arange(0, NUMBERS_BLOCK)
            at_weight = tl.arange(0, H_PAD)[:, None] * NUMBERS_PAD + number[None, :]
            output = tl.sum(tl.load(parameters + NUMBER_WEIGHT + at_weight) * hidden_sum[:, None], 0) / weight_sum
            output += tl.load(parameters + NUMBER_BIAS + number)
            seen = tl.load(mask + row * M + tl.load(number_attribute + number), mask=number < NUMBERS, other=0.0) > 0
            column = row * D + tl.load(number_column + number)
            value = tl.load(x + column, mask=seen, other=0.0)
            tl.store(imputed + column, tl.where(seen, value, output), mask=number < NUMBERS)
        if CATEGORIES:
            exists = category < CATEGORIES
            start = tl.load(level_start + category)
            column = row * D + start[:, None] + level[None, :]
            within = exists[:, None] & (level[None, :] < tl.load(level_width + category)[:, None])
            seen = tl.load(mask + row * M + tl.load(level_attribute + category), mask=exists, other=0.0) > 0
            value = tl.load(x + column, mask=within & seen[:, None], other=0.0)
            tl.store(imputed + column, tl.where(seen[:, None], value, class_sum / weight_sum), mask=within)
        tl.store(log_evidence + row, reference + tl.log(weight_sum))
        tl.store(effective_size + row, weight_sum * weight_sum / square_sum)
