"""grouped_mlp on tensor cores: one layer of all networks, and the way back.

The maths stands in ``csrc/cuda/grouped_mlp.cu``. Arguments, grids and what is kept for the way back are those of that
file. ``TILE`` rows of one network to a program; ``IN_BLOCK`` inputs and ``OUT_BLOCK`` outputs at
once.
"""

import triton
import triton.language as tl
from vsae_fast.kernels.arithmetic import product

EPSILON = tl.constexpr(1e-5)
MOMENTUM = tl.constexpr(0.1)
MIN_ROWS_FOR_STATISTICS = tl.constexpr(2)


@triton.jit
def _unit(at, j, inside, linear, statistics, WIDTH: tl.constexpr):
    """Normalised outputs of a hidden layer before scale and shift."""
    value = tl.load(linear + at, mask=inside, other=0.0)
    near = tl.load(statistics + j, mask=j < WIDTH, other=0.0)
    beyond = tl.load(statistics + WIDTH + j, mask=j < WIDTH, other=0.0)
    inverse = tl.load(statistics + 2 * WIDTH + j, mask=j < WIDTH, other=0.0)
    return ((value - near[None, :]) - beyond[None, :]) * inverse[None, :]


@triton.jit
def _inputs(
    row, j, left, observed, n_groups, slope, x, below, below_statistics, below_gamma, below_beta, IN: tl.constexpr,
    NORMALISED: tl.constexpr,
):  # fmt: skip
    """Inputs [tile, j], which are x or the layer below, activated; and the latter before scale and shift."""
    inside = (row < left)[:, None] & (j < IN)[None, :]
    if NORMALISED:
        unit = _unit(row[:, None] * IN + j[None, :], j, inside, below, below_statistics, IN)
        gamma = tl.load(below_gamma + j, mask=j < IN, other=0.0)
        beta = tl.load(below_beta + j, mask=j < IN, other=0.0)
        h = unit * gamma[None, :] + beta[None, :]
        h = tl.where(inside, tl.where(h > 0, h, slope * h), 0.0)
    else:
        at = row[:, None] * (n_groups * IN) + j[None, :]
        h = tl.load(x + at, mask=inside & observed[:, None], other=0.0)
        unit = h
    return h, unit


@triton.jit
def grouped_layer(
    n_rows, n_groups, slope, x, mask, below, below_statistics, below_gamma, below_beta, weight, bias, out, partial,
    IN: tl.constexpr, OUT: tl.constexpr, NORMALISED: tl.constexpr, HEAD: tl.constexpr, TILE: tl.constexpr,
    IN_BLOCK: tl.constexpr, OUT_BLOCK: tl.constexpr,
):  # fmt: skip
    """Linear outputs of a tile, and their statistics for ``grouped_statistics``; grid: tiles, networks."""
    tile, group = tl.program_id(0), tl.program_id(1)
    # Pointers go to the tile's first row and the network, so that offsets within are short.
    first_row = tile.to(tl.int64) * TILE
    in_rows, in_table = group.to(tl.int64) * n_rows + first_row, first_row * n_groups + group
    row, left = tl.arange(0, TILE), (n_rows - first_row).to(tl.int32)
    weight += group * IN * OUT
    observed = tl.load(mask + in_table + row * n_groups, mask=row < left, other=0.0) > 0
    if NORMALISED:
        below += in_rows * IN
        below_statistics += 4 * group * IN
        below_gamma += group * IN
        below_beta += group * IN
    else:
        x += in_table * IN
    if HEAD:
        out += in_table * OUT
        row_step = n_groups * OUT
    else:
        out += in_rows * OUT
        row_step = OUT
    for first in range(0, OUT, OUT_BLOCK):
        o = first + tl.arange(0, OUT_BLOCK)
        h = tl.zeros([TILE, OUT_BLOCK], tl.float32)
        for begin in range(0, IN, IN_BLOCK):
            j = begin + tl.arange(0, IN_BLOCK)
            inputs, _ = _inputs(
                row, j, left, observed, n_groups, slope, x, below, below_statistics, below_gamma, below_beta, IN,
                NORMALISED,
            )  # fmt: skip
            within = (j < IN)[:, None] & (o < OUT)[None, :]
            h += product(inputs, tl.load(weight + j[:, None] * OUT + o[None, :], mask=within, other=0.0))
        h += tl.load(bias + group * OUT + o, mask=o < OUT, other=0.0)[None, :]
        tl.store(out + row[:, None] * row_step + o[None, :], h, mask=(row < left)[:, None] & (o < OUT)[None, :])
        if not HEAD and partial is not None:
            count = tl.sum(observed.to(tl.float32), 0)
            safe = tl.maximum(count, 1.0)
            mean = tl.sum(tl.where(observed[:, None], h, 0.0), 0) / safe
            centred = tl.where(observed[:, None], h - mean[None, :], 0.0)
            beyond = tl.sum(centred, 0) / safe  # what rounding took of the mean
            squares = tl.sum(centred * centred, 0) - count * beyond * beyond
            to = partial + (tile * n_groups + group) * 4 * OUT + o
            tl.store(to, tl.zeros([OUT_BLOCK], tl.float32) + count, mask=o < OUT)
            tl.store(to + OUT, mean, mask=o < OUT)
            tl.store(to + 2 * OUT, beyond, mask=o < OUT)
            tl.store(to + 3 * OUT, squares, mask=o < OUT)


@triton.jit
def grouped_statistics(
    n_tiles, n_groups, partial, running_mean, running_var, statistics, IN: tl.constexpr, OUT: tl.constexpr,
    NORMALISED: tl.constexpr, HEAD: tl.constexpr, TILE: tl.constexpr, IN_BLOCK: tl.constexpr, OUT_BLOCK: tl.constexpr,
):  # fmt: skip
    """Statistics of a hidden layer from those of its tiles (Chan et al. 1983); grid: networks."""
    group = tl.program_id(0)
    for first in range(0, OUT, OUT_BLOCK):
        o = first + tl.arange(0, OUT_BLOCK)
        there = o < OUT
        count = tl.zeros([OUT_BLOCK], tl.float32)
        near = tl.zeros([OUT_BLOCK], tl.float32)
        beyond = tl.zeros([OUT_BLOCK], tl.float32)
        squares = tl.zeros([OUT_BLOCK], tl.float32)
        if partial is not None:
            for tile in range(n_tiles):
                start = partial + (tile * n_groups + group) * 4 * OUT + o
                own = tl.load(start, mask=there, other=0.0)
                mean = tl.load(start + OUT, mask=there, other=0.0)
                near = tl.where((count == 0) & (own > 0), mean, near)
                together = tl.maximum(count + own, 1.0)
                distance = ((mean - near) + tl.load(start + 2 * OUT, mask=there, other=0.0)) - beyond
                distance = tl.where(own > 0, distance, 0.0)
                beyond += distance * (own / together)
                squares += tl.load(start + 3 * OUT, mask=there, other=0.0)
                squares += distance * distance * (count * own / together)
                count += own
        at = group * OUT + o
        old_mean = tl.load(running_mean + at, mask=there, other=0.0)
        old_var = tl.load(running_var + at, mask=there, other=1.0)
        from_batch = count >= MIN_ROWS_FOR_STATISTICS
        variance = tl.where(from_batch, squares / tl.maximum(count, 1.0), old_var)
        unbiased = squares / tl.maximum(count - 1, 1.0)
        tl.store(running_mean + at, old_mean + MOMENTUM * ((near - old_mean) + beyond), mask=there & from_batch)
        tl.store(running_var + at, old_var + MOMENTUM * (unbiased - old_var), mask=there & from_batch)
        to = statistics + 4 * group * OUT + o
        tl.store(to, tl.where(from_batch, near, old_mean), mask=there)
        tl.store(to + OUT, tl.where(from_batch, beyond, 0.0), mask=there)
        tl.store(to + 2 * OUT, 1.0 / tl.sqrt(variance + EPSILON), mask=there)
        tl.store(to + 3 * OUT, from_batch.to(tl.float32), mask=there)


@triton.jit
def _above(
    row, o, left, observed, n_groups, count, gradient, sums, linear, statistics, gamma, OUT: tl.constexpr,
    HEAD: tl.constexpr,
):  # fmt: skip
    """Gradient [tile, o] of the layer's linear output."""
    inside = (row < left)[:, None] & (o < OUT)[None, :]
    if HEAD:
        value = tl.load(gradient + row[:, None] * (n_groups * OUT) + o[None, :], mask=inside, other=0.0)
    else:
        at = row[:, None] * OUT + o[None, :]
        value = tl.load(gradient + at, mask=inside, other=0.0)
        from_batch = tl.load(statistics + 3 * OUT + o, mask=o < OUT, other=0.0) > 0
        with_unit = tl.load(sums + o, mask=o < OUT, other=0.0)
        alone = tl.load(sums + OUT + o, mask=o < OUT, other=0.0)
        unit = _unit(at, o, inside, linear, statistics, OUT)
        share = (alone[None, :] + unit * with_unit[None, :]) / count
        value -= tl.where(observed[:, None] & from_batch[None, :], share, 0.0)
        inverse = tl.load(statistics + 2 * OUT + o, mask=o < OUT, other=0.0)
        value *= (tl.load(gamma + o, mask=o < OUT, other=0.0) * inverse)[None, :]
        value = tl.where(inside, value, 0.0)
    return value


@triton.jit
def grouped_layer_backward(
    n_rows, n_groups, slope, x, mask, counts, below, below_statistics, below_gamma, below_beta, transposed, gradient,
    sums, linear, statistics, gamma, of_weight, of_bias, down, partial_sums, IN: tl.constexpr, OUT: tl.constexpr,
    NORMALISED: tl.constexpr, HEAD: tl.constexpr, TILE: tl.constexpr, IN_BLOCK: tl.constexpr, OUT_BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of a layer's parameters and input from that of its output; grid: tiles, networks."""
    tile, group = tl.program_id(0), tl.program_id(1)
    first_row = tile.to(tl.int64) * TILE
    in_rows, in_table = group.to(tl.int64) * n_rows + first_row, first_row * n_groups + group
    of_tile = tile.to(tl.int64) * n_groups + group
    row, left = tl.arange(0, TILE), (n_rows - first_row).to(tl.int32)
    observed = tl.load(mask + in_table + row * n_groups, mask=row < left, other=0.0) > 0
    count = tl.maximum(tl.load(counts + group), 1.0)
    transposed += group * IN * OUT
    of_weight += of_tile * IN * OUT
    of_bias += of_tile * OUT
    if HEAD:
        gradient += in_table * OUT
    else:
        gradient += in_rows * OUT
        linear += in_rows * OUT
        statistics += 4 * group * OUT
        sums += 2 * group * OUT
        gamma += group * OUT
    if NORMALISED:
        below += in_rows * IN
        below_statistics += 4 * group * IN
        below_gamma += group * IN
        below_beta += group * IN
        down += in_rows * IN
        partial_sums += of_tile * 2 * IN
    else:
        x += in_table * IN
        down += in_table * IN
    for first in range(0, OUT, OUT_BLOCK):
        o = first + tl.arange(0, OUT_BLOCK)
        above = _above(row, o, left, observed, n_groups, count, gradient, sums, linear, statistics, gamma, OUT, HEAD)
        bias = tl.sum(above, 0)
        if not HEAD:
            # The batch's mean takes the bias away again: where it was used the gradient is zero, not its rounding.
            gone = tl.load(statistics + 3 * OUT + o, mask=o < OUT, other=0.0) > 0
            bias = tl.where(gone, 0.0, bias)
        tl.store(of_bias + o, bias, mask=o < OUT)
    for begin in range(0, IN, IN_BLOCK):
        j = begin + tl.arange(0, IN_BLOCK)
        inputs, unit = _inputs(
            row, j, left, observed, n_groups, slope, x, below, below_statistics, below_gamma, below_beta, IN,
            NORMALISED,
        )  # fmt: skip
        lower = tl.zeros([TILE, IN_BLOCK], tl.float32)
        for first in range(0, OUT, OUT_BLOCK):
            o = first + tl.arange(0, OUT_BLOCK)
            above = _above(
                row, o, left, observed, n_groups, count, gradient, sums, linear, statistics, gamma, OUT, HEAD
            )
            within = (o < OUT)[:, None] & (j < IN)[None, :]
            lower += product(above, tl.load(transposed + o[:, None] * IN + j[None, :], mask=within, other=0.0))
            of_pair = product(tl.trans(inputs), above)
            tl.store(of_weight + j[:, None] * OUT + o[None, :], of_pair, mask=(j < IN)[:, None] & (o < OUT)[None, :])
        inside = (row < left)[:, None] & (j < IN)[None, :]
        if NORMALISED:
            # The activation keeps the sign of what it is given.
            lower = tl.where(inside, lower * tl.where(inputs > 0, 1.0, slope), 0.0)
            tl.store(partial_sums + j, tl.sum(lower * unit, 0), mask=j < IN)
            tl.store(partial_sums + IN + j, tl.sum(lower, 0), mask=j < IN)
            tl.store(down + row[:, None] * IN + j[None, :], lower, mask=inside)
        else:
            lower = tl.where(observed[:, None], lower, 0.0)
            tl.store(down + row[:, None] * (n_groups * IN) + j[None, :], lower, mask=inside)
