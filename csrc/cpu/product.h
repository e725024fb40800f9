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

template <int kRows, int kCount>
static void product_tile(const Product& p, int row, int column) {
    Vec sum[kRows][kCount];
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kCount; ++v)
            sum[r][v] = p.accumulate ? load(p.c + (row + r) * p.c_row + column + v * kLanes)
                        : p.bias     ? load(p.bias + column + v * kLanes)
                                     : Vec{};
    const float* a = p.a + row * p.a_row;
    const float* b = p.b + column;
    for (int k = 0; k < p.k; ++k, a += p.a_column, b += p.b_row) {
        Vec right[kCount];
        for (int v = 0; v < kCount; ++v) right[v] = load(b + v * kLanes);
        for (int r = 0; r < kRows; ++r) {
            const float left = a[r * p.a_row];
            for (int v = 0; v < kCount; ++v) sum[r][v] += left * right[v];
        }
    }
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kCount; ++v) store(p.c + (row + r) * p.c_row + column + v * kLanes, sum[r][v]);
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

static void product(const Product& p) {
    int column = 0;
    for (; column + kTileLines * kLine <= p.n; column += kTileLines * kLine) product_columns<kTileVectors>(p, column);
    for (; column < p.n; column += kLine) product_columns<kVectorsPerLine>(p, column);
}

}  // namespace VSAE_ISA
}  // namespace vsae
