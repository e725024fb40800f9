"""propose on tensor cores: a layer of the proposal networks of imputation at a time, in evaluation mode.

The first layers read the table itself: the attributive ones what is observed of their attribute, the collective one the
observed data with its holes filled and the mask behind it, which exists nowhere else. The last ones write each latent
where it counts: block i of a row's latents comes from attribute i's own network where it is observed and from the
collective one where it is not (Gong et al. 2021, section 3.2). Weights are (out, in), as torch holds them.
"""

import triton
import triton.language as tl
from vsae_fast.kernels.arithmetic import leaky, product

LOG_VARIANCE_LIMIT = tl.constexpr(8.0)  # kLogVarianceLimit in csrc/core/training_step.h


@triton.jit
def _scale(log_variance):
    return tl.exp(0.5 * tl.minimum(tl.maximum(log_variance, -LOG_VARIANCE_LIMIT), LOG_VARIANCE_LIMIT))


@triton.jit
def own_layer(
    n_rows,
    n_attributes,
    n_columns,
    n_members,
    n_proposals,
    member,  # [G] attributes of the group
    start,  # [M + 1] first column of each attribute
    x,  # [N, D]
    mask,  # [N, M]
    hidden,  # [G, N, IN] of the layer below
    weight,  # [G, OUT, IN]
    bias,  # [G, OUT]
    out,  # [G, N, OUT]
    mean,  # [N, P, M LATENT]
    scale,
    IN: tl.constexpr,
    OUT: tl.constexpr,
    FIRST: tl.constexpr,
    LAST: tl.constexpr,
    LATENT: tl.constexpr,  # of an attribute
    SLOPE: tl.constexpr,
    ROWS: tl.constexpr,
    IN_BLOCK: tl.constexpr,
    OUT_BLOCK: tl.constexpr,
):
    """A layer of the attributive networks of one shape; grid: tiles of rows, members times blocks of outputs."""
    # Pointers go to the tile's first row, so that offsets within are short.
    first_row = tl.program_id(0).to(tl.int64) * ROWS
    row, left = tl.arange(0, ROWS), (n_rows - first_row).to(tl.int32)
    g = tl.program_id(1) % n_members
    o = tl.program_id(1) // n_members * OUT_BLOCK + tl.arange(0, OUT_BLOCK)
    a = tl.load(member + g)
    real = row < left
    observed = tl.load(mask + (first_row * n_attributes + a) + row * n_attributes, mask=real, other=0.0) > 0
    begin_column = tl.load(start + a)
    n_own = tl.load(start + a + 1) - begin_column
    if FIRST:
        x += first_row * n_columns + begin_column
    else:
        hidden += (g.to(tl.int64) * n_rows + first_row) * IN
    weight += g * OUT * IN
    h = tl.zeros([ROWS, OUT_BLOCK], tl.float32)
    for begin in range(0, IN, IN_BLOCK):
        j = begin + tl.arange(0, IN_BLOCK)
        if FIRST:
            inside = observed[:, None] & (j < n_own)[None, :]
            inputs = tl.load(x + row[:, None] * n_columns + j[None, :], mask=inside, other=0.0)
        else:
            inputs = tl.load(hidden + row[:, None] * IN + j[None, :], mask=real[:, None] & (j < IN)[None, :], other=0.0)
        at_weight = o[None, :] * IN + j[:, None]
        h += product(inputs, tl.load(weight + at_weight, mask=(j < IN)[:, None] & (o < OUT)[None, :], other=0.0))
    h += tl.load(bias + g * OUT + o, mask=o < OUT, other=0.0)[None, :]
    if LAST:
        n_latent = n_attributes * LATENT
        mean += first_row * n_proposals * n_latent + a * LATENT
        scale += first_row * n_proposals * n_latent + a * LATENT
        for p in range(n_proposals):
            at = (row * n_proposals + p)[:, None] * n_latent + o[None, :]
            tl.store(mean + at, h, mask=observed[:, None] & (o < LATENT)[None, :])
            spread = observed[:, None] & (o >= LATENT)[None, :] & (o < 2 * LATENT)[None, :]
            tl.store(scale + at - LATENT, _scale(h), mask=spread)
    else:
        out += (g.to(tl.int64) * n_rows + first_row) * OUT
        tl.store(out + row[:, None] * OUT + o[None, :], leaky(h, SLOPE), mask=real[:, None] & (o < OUT)[None, :])


@triton.jit
def collective_layer(
    n_rows,
    n_attributes,
    n_columns,
    proposal,
    n_proposals,
    attribute,  # [D] of each column
    x,  # [N, D]
    mask,  # [N, M]
    fill,  # [P, D] in the holes, or None for zeros
    hidden,  # [N, IN] of the layer below
    weight,  # [OUT, IN]
    bias,  # [OUT], or None
    out,  # [N, OUT], or [N, P, OUT] of the context
    mean,  # [N, P, M LATENT]
    scale,
    IN: tl.constexpr,
    OUT: tl.constexpr,
    FIRST: tl.constexpr,
    ROLE: tl.constexpr,  # "body", "head" or "context"
    LATENT: tl.constexpr,  # of an attribute
    SLOPE: tl.constexpr,
    ROWS: tl.constexpr,
    IN_BLOCK: tl.constexpr,
    OUT_BLOCK: tl.constexpr,
):
    """A layer of the collective network for one proposal; grid: tiles of rows, blocks of outputs."""
    first_row = tl.program_id(0).to(tl.int64) * ROWS
    row, left = tl.arange(0, ROWS), (n_rows - first_row).to(tl.int32)
    o = tl.program_id(1) * OUT_BLOCK + tl.arange(0, OUT_BLOCK)
    real = row < left
    mask += first_row * n_attributes
    if FIRST:
        x += first_row * n_columns
    else:
        hidden += first_row * IN
    h = tl.zeros([ROWS, OUT_BLOCK], tl.float32)
    for begin in range(0, IN, IN_BLOCK):
        j = begin + tl.arange(0, IN_BLOCK)
        if FIRST:  # op fill_unobserved
            datum = j < n_columns
            a = tl.where(datum, tl.load(attribute + j, mask=datum, other=0), j - n_columns)
            inside = real[:, None] & (j < IN)[None, :]
            observed = tl.load(mask + row[:, None] * n_attributes + a[None, :], mask=inside, other=0.0)
            known = inside & datum[None, :] & (observed > 0)
            inputs = tl.load(x + row[:, None] * n_columns + j[None, :], mask=known, other=0.0)
            if fill is not None:
                hole = tl.load(fill + proposal * n_columns + j, mask=datum, other=0.0)
                inputs = tl.where(inside & datum[None, :] & (observed <= 0), hole[None, :], inputs)
            inputs = tl.where(datum[None, :], inputs, observed)
        else:
            inputs = tl.load(hidden + row[:, None] * IN + j[None, :], mask=real[:, None] & (j < IN)[None, :], other=0.0)
        at_weight = o[None, :] * IN + j[:, None]
        h += product(inputs, tl.load(weight + at_weight, mask=(j < IN)[:, None] & (o < OUT)[None, :], other=0.0))
    if bias is not None:
        h += tl.load(bias + o, mask=o < OUT, other=0.0)[None, :]
    if ROLE == "head":
        n_latent = n_attributes * LATENT
        of_mean = o < n_latent
        latent = tl.where(of_mean, o, o - n_latent)
        inside = real[:, None] & (o < OUT)[None, :]
        at_mask = row[:, None] * n_attributes + (latent // LATENT)[None, :]
        wanted = inside & (tl.load(mask + at_mask, mask=inside, other=1.0) <= 0)
        mean += (first_row * n_proposals + proposal) * n_latent
        scale += (first_row * n_proposals + proposal) * n_latent
        at = row[:, None] * (n_proposals * n_latent) + latent[None, :]
        tl.store(mean + at, h, mask=wanted & of_mean[None, :])
        tl.store(scale + at, _scale(h), mask=wanted & (~of_mean)[None, :])
    elif ROLE == "context":
        out += (first_row * n_proposals + proposal) * OUT
        at = row[:, None] * (n_proposals * OUT) + o[None, :]
        tl.store(out + at, h, mask=real[:, None] & (o < OUT)[None, :])
    else:
        out += first_row * OUT
        tl.store(out + row[:, None] * OUT + o[None, :], leaky(h, SLOPE), mask=real[:, None] & (o < OUT)[None, :])
