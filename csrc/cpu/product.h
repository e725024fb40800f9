// Matrix product for small matrices that stay in cache: a tile of C in registers, A broadcast, B loaded by vectors.
#pragma once

#include "core/training_step.h"
#include "cpu/simd.h"

namespace vsae {
namespace VSAE_ISA {

inline constexpr int kVectorsPerLine = kLine / kLanes;
inline constexpr int kTileLines = kLanes == 16 ? 2 : 1;
inline constexpr int kTileVectors = kTileLines * kVectorsPerLine;
inline constexpr int kTileRowsMax = kLanes == 4 ? 3 : kLanes == 8 ? 6 : 12;

// Fields of `p` are copied first: behind a reference they would be read again after every store, which short sums (16
// inputs) cannot hide. Three rows of A share a pointer, as a stride and its double are address modes: a dozen offsets
// would not fit the general registers.
template <int kRows, int kCount>
static void product_tile(const Product& p, int row, int column) {
    const long a_row = p.a_row, a_column = p.a_column, b_row = p.b_row, c_row = p.c_row;
    constexpr int kTriples = (kRows + 2) / 3;
    const float* a[kTriples];
    for (int t = 0; t < kTriples; ++t) a[t] = p.a + (row + 3 * t) * a_row;
    const float* b = p.b + column;
    float* c = p.c + row * c_row + column;
    Vec sum[kRows][kCount];
    if (p.accumulate) {
        VSAE_UNROLL
        for (int r = 0; r < kRows; ++r)
            for (int v = 0; v < kCount; ++v) sum[r][v] = load(c + r * c_row + v * kLanes);
    } else {
        Vec start[kCount];
        for (int v = 0; v < kCount; ++v) start[v] = p.bias ? load(p.bias + column + v * kLanes) : Vec{};
        VSAE_UNROLL
        for (int r = 0; r < kRows; ++r)
            for (int v = 0; v < kCount; ++v) sum[r][v] = start[v];
    }
    for (int k = p.k; k > 0; --k, b += b_row) {
        Vec right[kCount];
        for (int v = 0; v < kCount; ++v) right[v] = load(b + v * kLanes);
        VSAE_UNROLL
        for (int r = 0; r < kRows; ++r) {
            const float left = a[r / 3][r % 3 * a_row];
            for (int v = 0; v < kCount; ++v) sum[r][v] += left * right[v];
        }
        VSAE_UNROLL
        for (int t = 0; t < kTriples; ++t) a[t] += a_column;
    }
    const Vec slope = splat(p.slope);
    VSAE_UNROLL
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kCount; ++v) store(c + r * c_row + v * kLanes, max(sum[r][v], slope * sum[r][v]));
}

template <int kRows, int kCount>
static void product_remainder(const Product& p, int rows, int row, int column) {
    if constexpr (kRows > 0) {
        if (rows == kRows)
            product_tile<kRows, kCount>(p, row, column);
        else
            product_remainder<kRows - 1, kCount>(p, rows, row, column);
    }
}

template <int kCount>
static void product_columns(const Product& p, int column) {
    int row = 0;
    for (; row + kTileRowsMax <= p.m; row += kTileRowsMax) product_tile<kTileRowsMax, kCount>(p, row, column);
    if (row < p.m) product_remainder<kTileRowsMax - 1, kCount>(p, p.m - row, row, column);
}

static void product_block(const Product& p) {
    int column = 0;
    for (; column + kTileLines * kLine <= p.n; column += kTileLines * kLine) product_columns<kTileVectors>(p, column);
    for (; column < p.n; column += kLine) product_columns<kVectorsPerLine>(p, column);
}

// Long sums (gradients of weights run over all samples) go by blocks whose panel of B stays in the first-level cache
// and whose A stays in the second; each value is summed in the same order as without blocks.
inline constexpr int kDepth = 192;

static void product(const Product& whole) {
    Product block = whole;
    for (int k = 0; k < whole.k || k == 0; k += kDepth) {
        const bool last = whole.k - k <= kDepth;
        block.a = whole.a + k * whole.a_column;
        block.b = whole.b + k * whole.b_row;
        block.k = last ? whole.k - k : kDepth;
        block.accumulate = whole.accumulate || k > 0;
        block.slope = last ? whole.slope : 1.0f;
        product_block(block);
    }
}

}  // namespace VSAE_ISA
}  // namespace vsae
