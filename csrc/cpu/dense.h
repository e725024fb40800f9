// One dense layer over a block of S samples, samples in lanes: out[j][s] = act(bias[j] + sum_i W[j][i] in[i][s]).
// Accumulators (4 x 3, or 8 x 3 where there are 32 registers) plus 3 inputs and 1 weight fill the registers and keep
// more multiply-adds in flight than their latency, so the loop is bound by arithmetic, not by loads.
#pragma once

#include "core/importance_impute.h"
#include "core/tile.h"
#include "cpu/simd.h"

namespace vsae {
namespace VSAE_ISA {

inline constexpr int kVectors = 3;
inline constexpr int kBlock = kVectors * kLanes;  // S, samples in a block
// Inputs that do not fit the first-level cache are read from the second for every group of tiles: larger groups, where
// there are registers for them, halve that.
inline constexpr int kTilesAtOnce = kLanes == 16 ? 2 : 1;
inline constexpr int kCachedInputs = 24 * 1024 / (kBlock * static_cast<int>(sizeof(float)));

template <bool kActivation, int kTiles>
static void dense_group(const float* weight, const float* bias, int n_in, const float* in, float* out, float slope) {
    constexpr int kRows = kTiles * kTileRows;
    Vec sum[kRows][kVectors];
    VSAE_UNROLL
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) sum[r][v] = splat(kActivation ? bias[r] : 0.0f);

    const float* w = weight;
    const long next_tile = static_cast<long>(n_in) * kTileRows;
    for (int i = 0; i < n_in; ++i, w += kTileRows) {
        Vec x[kVectors];
        for (int v = 0; v < kVectors; ++v) x[v] = load(in + i * kBlock + v * kLanes);
        VSAE_UNROLL
        for (int t = 0; t < kTiles; ++t)
            for (int r = 0; r < kTileRows; ++r)
                for (int v = 0; v < kVectors; ++v) sum[t * kTileRows + r][v] += w[t * next_tile + r] * x[v];
    }

    // Where the outputs are scored the bias comes last: a large one (an observed value far from the mean) would cost
    // every partial sum its digits.
    VSAE_UNROLL
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) {
            const Vec s = sum[r][v];
            store(out + r * kBlock + v * kLanes, kActivation ? max(s, slope * s) : s + bias[r]);
        }
}

template <bool kActivation>
static void dense_tiles(const float* weight, const float* bias, int n_in, int n_out, const float* in, float* out,
                        float slope) {
    const int n_tiles = tiles(n_out);
    int tile = 0;
    const auto group = [&]<int kTiles>() {
        dense_group<kActivation, kTiles>(weight + static_cast<long>(tile) * n_in * kTileRows, bias + tile * kTileRows,
                                         n_in, in, out + static_cast<long>(tile) * kTileRows * kBlock, slope);
        tile += kTiles;
    };
    if (kTilesAtOnce > 1 && n_in > kCachedInputs)
        while (tile + kTilesAtOnce <= n_tiles) group.template operator()<kTilesAtOnce>();
    while (tile < n_tiles) group.template operator()<1>();
}

// out = bias + R in for an upper triangular R packed by pack_triangle.
static void dense_triangle(const float* packed, const float* bias, int n, const float* in, float* out) {
    for (int first = 0; first < n; first += kTileRows) {
        dense_group<false, 1>(packed, bias + first, n - first, in + static_cast<long>(first) * kBlock,
                              out + static_cast<long>(first) * kBlock, 0.0f);
        packed += static_cast<long>(n - first) * kTileRows;
    }
}

static inline void dense(const DenseLayer& layer, const float* bias, const float* in, float* out, float slope) {
    if (layer.activation)
        dense_tiles<true>(layer.weight, bias, layer.n_in, layer.n_out, in, out, slope);
    else
        dense_tiles<false>(layer.weight, bias, layer.n_in, layer.n_out, in, out, slope);
}

}  // namespace VSAE_ISA
}  // namespace vsae
