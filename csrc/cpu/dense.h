// One dense layer over a block of S samples, samples in lanes: out[j][s] = act(bias[j] + sum_i W[j][i] in[i][s]).
// kTileRows x kVectors accumulators (12) plus 3 inputs and 1 weight fill the 16 registers of AVX2 and keep more
// multiply-adds in flight than their latency, so the loop is bound by arithmetic, not by loads.
#pragma once

#include "core/importance_impute.h"
#include "core/tile.h"
#include "cpu/simd.h"

namespace vsae {
namespace VSAE_ISA {

inline constexpr int kVectors = 3;
inline constexpr int kBlock = kVectors * kLanes;  // S, samples in a block

template <bool kActivation>
static void dense_tiles(const float* weight, const float* bias, int n_in, int n_out, const float* in, float* out,
                        float slope) {
    for (int tile = 0; tile < tiles(n_out); ++tile) {
        Vec sum[kTileRows][kVectors];
        for (int r = 0; r < kTileRows; ++r)
            for (int v = 0; v < kVectors; ++v) sum[r][v] = splat(kActivation ? bias[tile * kTileRows + r] : 0.0f);

        const float* w = weight + static_cast<long>(tile) * n_in * kTileRows;
        for (int i = 0; i < n_in; ++i, w += kTileRows) {
            Vec x[kVectors];
            for (int v = 0; v < kVectors; ++v) x[v] = load(in + i * kBlock + v * kLanes);
            for (int r = 0; r < kTileRows; ++r)
                for (int v = 0; v < kVectors; ++v) sum[r][v] += w[r] * x[v];
        }

        // Where the outputs are scored the bias comes last: a large one (an observed value far from the mean) would
        // cost every partial sum its digits.
        float* y = out + static_cast<long>(tile) * kTileRows * kBlock;
        for (int r = 0; r < kTileRows; ++r)
            for (int v = 0; v < kVectors; ++v) {
                const Vec s = sum[r][v];
                store(y + r * kBlock + v * kLanes, kActivation ? max(s, slope * s) : s + bias[tile * kTileRows + r]);
            }
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
