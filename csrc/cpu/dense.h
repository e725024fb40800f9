// One dense layer over a block of S samples, samples in lanes: out[j][s] = act(bias[j] + sum_i W[j][i] in[i][s]).
// Accumulators (4 x 3, or 8 x 3 where there are 32 registers) plus 3 inputs and 1 weight fill the registers and keep
// more multiply-adds in flight than their latency, so the loop is bound by arithmetic, not by loads.
#pragma once

#include "core/importance_impute.h"
#include "core/sample_order.h"
#include "core/tile.h"
#include "cpu/simd.h"

namespace vsae {
namespace VSAE_ISA {

inline constexpr int kVectors = kBlockVectors;
inline constexpr int kBlock = kVectors * kLanes;  // S, samples in a block
// Inputs that do not fit the first-level cache are read from the second for every group of tiles: larger groups, where
// there are registers for them, halve that.
inline constexpr int kTilesAtOnce = kLanes == 16 ? 2 : 1;
inline constexpr int kCachedInputs = 24 * 1024 / (kBlock * static_cast<int>(sizeof(float)));

// How the sums of a layer begin and what becomes of them; `from(r)` is the same for the outputs from row r on.

struct Active {
    const float* bias;
    float slope;  // of LeakyReLU
    Active from(int row) const { return {bias + row, slope}; }
    Vec begin(int row, int) const { return splat(bias[row]); }
    Vec end(int, Vec sum) const { return max(sum, slope * sum); }
};

// Where the outputs are scored the bias comes last: a large one (an observed value far from the mean) would cost every
// partial sum its digits.
struct Linear {
    const float* bias;
    Linear from(int row) const { return {bias + row}; }
    Vec begin(int, int) const { return Vec{}; }
    Vec end(int row, Vec sum) const { return sum + bias[row]; }
};

struct Plain {
    Plain from(int) const { return {}; }
    Vec begin(int, int) const { return Vec{}; }
    Vec end(int, Vec sum) const { return sum; }
};

// Vectors v of a block begin with bias + sign[v] * start[v], a product [n_out, S] that other vectors share.
struct Mirrored {
    const float* bias;
    float slope;  // 1 where there is no activation
    const float* start[kVectors];
    float sign[kVectors];
    Mirrored from(int row) const {
        Mirrored moved = *this;
        moved.bias += row;
        for (int v = 0; v < kVectors; ++v) moved.start[v] += static_cast<long>(row) * kBlock;
        return moved;
    }
    Vec begin(int row, int v) const { return bias[row] + sign[v] * load(start[v] + static_cast<long>(row) * kBlock); }
    Vec end(int, Vec sum) const { return max(sum, slope * sum); }
};

template <int kTiles, int kCount, class Ends>
static void dense_group(const float* weight, long next_tile, int n_in, const float* in, float* out, const Ends& ends) {
    constexpr int kRows = kTiles * kTileRows;
    Vec sum[kRows][kCount];
    VSAE_UNROLL
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kCount; ++v) sum[r][v] = ends.begin(r, v);

    const float* w = weight;
    for (int i = 0; i < n_in; ++i, w += kTileRows) {
        Vec x[kCount];
        for (int v = 0; v < kCount; ++v) x[v] = load(in + i * kBlock + v * kLanes);
        VSAE_UNROLL
        for (int t = 0; t < kTiles; ++t)
            for (int r = 0; r < kTileRows; ++r)
                for (int v = 0; v < kCount; ++v) sum[t * kTileRows + r][v] += w[t * next_tile + r] * x[v];
    }

    VSAE_UNROLL
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kCount; ++v) store(out + r * kBlock + v * kLanes, ends.end(r, sum[r][v]));
}

// Of kCount vectors of a block, and of the layer's weights from one input on: tiles are `next_tile` floats apart, of
// which n_in inputs are taken.
template <int kCount = kVectors, class Ends>
static void dense_tiles(const float* weight, long next_tile, int n_in, int n_out, const float* in, float* out,
                        const Ends& ends) {
    const int n_tiles = tiles(n_out);
    int tile = 0;
    const auto group = [&]<int kTiles>() {
        dense_group<kTiles, kCount>(weight + tile * next_tile, next_tile, n_in, in,
                                    out + static_cast<long>(tile) * kTileRows * kBlock, ends.from(tile * kTileRows));
        tile += kTiles;
    };
    // A single vector needs the sums of two tiles to hide the latency of multiply-adds.
    constexpr int kAtOnce = kCount == 1 ? 2 : kTilesAtOnce;
    if (kCount == 1 || (kAtOnce > 1 && n_in > kCachedInputs))
        while (tile + kAtOnce <= n_tiles) group.template operator()<kAtOnce>();
    while (tile < n_tiles) group.template operator()<1>();
}

// out = bias + R in for an upper triangular R packed by pack_triangle.
static void dense_triangle(const float* packed, const float* bias, int n, const float* in, float* out) {
    for (int first = 0; first < n; first += kTileRows) {
        dense_group<1, kVectors>(packed, 0, n - first, in + static_cast<long>(first) * kBlock,
                                 out + static_cast<long>(first) * kBlock, Linear{bias + first});
        packed += static_cast<long>(n - first) * kTileRows;
    }
}

static inline long floats_per_tile(const DenseLayer& layer) { return static_cast<long>(layer.n_in) * kTileRows; }

static inline void dense(const DenseLayer& layer, const float* bias, const float* in, float* out, float slope) {
    if (layer.activation)
        dense_tiles(layer.weight, floats_per_tile(layer), layer.n_in, layer.n_out, in, out, Active{bias, slope});
    else
        dense_tiles(layer.weight, floats_per_tile(layer), layer.n_in, layer.n_out, in, out, Linear{bias});
}

}  // namespace VSAE_ISA
}  // namespace vsae
