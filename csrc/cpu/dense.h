// One dense layer over a block of S samples, samples in lanes: out[j][s] = act(bias[j] + sum_i W[j][i] in[i][s]).
// Eight sums at once, 4 outputs x 2 vectors or 8 x 1, and 16 where there are 32 registers, keep more multiply-adds in
// flight than their latency. Unrolled by four inputs the loop is bound by arithmetic; alone in a loop, one input at a
// time, a single tile reached three quarters of that, whatever the number of vectors.
#pragma once

#include <utility>

#include "core/importance_impute.h"
#include "core/tile.h"
#include "cpu/sample_block.h"
#include "cpu/simd.h"

namespace vsae {
namespace VSAE_ISA {

// A vector may hold a whole block, both halves of it: then no half has products of its own to share with the other, and
// every sample has a sum of its own in place of every pair.
inline constexpr bool kHalvesApart = kLanes <= kBlockLanes;
inline constexpr int kVectors = kBlock / kLanes;
inline constexpr int kHalfVectors = kHalvesApart ? kBlockLanes / kLanes : 1;
inline constexpr int kSumLanes = kHalvesApart ? kBlockLanes : kBlock;
#if defined(__aarch64__) || defined(__AVX512F__)
inline constexpr bool kManyRegisters = true;
#else
inline constexpr bool kManyRegisters = kLanes == 16;
#endif
inline constexpr int kSumsAtOnce = kManyRegisters ? 16 : 8;
inline constexpr int kVectorsAtOnce = kSumsAtOnce / kTileRows;  // where there are so many
// Tiles side by side where so many vectors of a block are used.
template <int kUsed>
inline constexpr int kTilesAtOnce = kUsed < kVectorsAtOnce ? kVectorsAtOnce / kUsed : 1;

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

// A block's first half begins with centre + product, its second with centre - product; products are
// [n_out, half a block]. The lanes of an output share a centre (those of one row's samples), or each has its own (those
// of several rows).
template <bool kOwnCentres>
struct MirroredHalves {
    const float* centre;
    float slope;  // 1 where there is no activation
    const float* product;
    MirroredHalves from(int row) const {
        const long lanes = static_cast<long>(row) * kBlockLanes;
        return {centre + (kOwnCentres ? lanes : row), slope, product + lanes};
    }
    Vec begin(int row, int v) const {
        const int at = row * kBlockLanes + v % kHalfVectors * kLanes;
        const Vec middle = kOwnCentres ? load(centre + at) : splat(centre[row]), shared = load(product + at);
        return v < kHalfVectors ? middle + shared : middle - shared;
    }
    Vec end(int, Vec sum) const { return max(sum, slope * sum); }
};
using Mirrored = MirroredHalves<false>;
using MirroredRows = MirroredHalves<true>;

// Vectors kFirst..kFirst + kCount - 1 of inputs and outputs that are kStride floats apart.
template <int kTiles, int kFirst, int kCount, int kStride, class Ends>
static void dense_group(const float* weight, long next_tile, int n_in, const float* in, float* out, const Ends& ends) {
    constexpr int kRows = kTiles * kTileRows;
    Vec sum[kRows][kCount];
    VSAE_UNROLL
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kCount; ++v) sum[r][v] = ends.begin(r, kFirst + v);

    in += kFirst * kLanes;
    out += kFirst * kLanes;
    const float* w = weight;
    VSAE_UNROLL_BY_FOUR
    for (int i = 0; i < n_in; ++i, w += kTileRows) {
        Vec x[kCount];
        for (int v = 0; v < kCount; ++v) x[v] = load(in + i * kStride + v * kLanes);
        VSAE_UNROLL
        for (int t = 0; t < kTiles; ++t)
            for (int r = 0; r < kTileRows; ++r)
                for (int v = 0; v < kCount; ++v) sum[t * kTileRows + r][v] += w[t * next_tile + r] * x[v];
    }

    VSAE_UNROLL
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kCount; ++v) store(out + r * kStride + v * kLanes, ends.end(r, sum[r][v]));
}

// The same of the first kUsed vectors.
template <int kTiles, int kStride, int kUsed, int kFirst = 0, class Ends>
static void dense_vectors(const float* weight, long next_tile, int n_in, const float* in, float* out,
                          const Ends& ends) {
    constexpr int kCount = kUsed - kFirst < kVectorsAtOnce ? kUsed - kFirst : kVectorsAtOnce;
    dense_group<kTiles, kFirst, kCount, kStride>(weight, next_tile, n_in, in, out, ends);
    if constexpr (kFirst + kCount < kUsed)
        dense_vectors<kTiles, kStride, kUsed, kFirst + kCount>(weight, next_tile, n_in, in, out, ends);
}

// Of kStride samples or the first kUsed vectors of them, and of the layer's weights from one input on: tiles are
// `next_tile` floats apart, of which n_in inputs are taken.
template <int kStride = kBlock, int kUsed = kStride / kLanes, class Ends>
static void dense_tiles(const float* weight, long next_tile, int n_in, int n_out, const float* in, float* out,
                        const Ends& ends) {
    const int n_tiles = tiles(n_out);
    int tile = 0;
    const auto group = [&]<int kTiles>() {
        dense_vectors<kTiles, kStride, kUsed>(weight + tile * next_tile, next_tile, n_in, in,
                                              out + static_cast<long>(tile) * kTileRows * kStride,
                                              ends.from(tile * kTileRows));
        tile += kTiles;
    };
    constexpr int kMost = kTilesAtOnce<kUsed>;
    while (tile + kMost <= n_tiles) group.template operator()<kMost>();
    if constexpr (kMost > 2)
        if (tile + 2 <= n_tiles) group.template operator()<2>();
    while (tile < n_tiles) group.template operator()<1>();
}

// out = bias + R in for an upper triangular R packed by pack_triangle.
template <int kUsed>
static void dense_triangle(const float* packed, const float* bias, int n, const float* in, float* out) {
    for (int first = 0; first < n; first += kTileRows) {
        dense_vectors<1, kBlock, kUsed>(packed, 0, n - first, in + static_cast<long>(first) * kBlock,
                                        out + static_cast<long>(first) * kBlock, Linear{bias + first});
        packed += static_cast<long>(n - first) * kTileRows;
    }
}

// Products of kRows rows of weights that stand anywhere with kCount vectors of inputs that are kStride floats apart.
template <int kStride, int kRows, int kCount>
static void products_of_rows(const float* const* rows, int n_in, const float* in, Vec (&sum)[kRows][kCount]) {
    static_assert(kRows <= kMostRowsAtOnce);
    const float* weight[kRows];
    Vec own[kRows][kCount];
    VSAE_UNROLL
    for (int r = 0; r < kRows; ++r) {
        weight[r] = rows[r];
        for (int v = 0; v < kCount; ++v) own[r][v] = Vec{};
    }
    VSAE_UNROLL_BY_FOUR
    for (int i = 0; i < n_in; ++i) {
        Vec x[kCount];
        for (int v = 0; v < kCount; ++v) x[v] = load(in + static_cast<long>(i) * kStride + v * kLanes);
        VSAE_UNROLL
        for (int r = 0; r < kRows; ++r)
            for (int v = 0; v < kCount; ++v) own[r][v] += weight[r][i] * x[v];
    }
    VSAE_UNROLL
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kCount; ++v) sum[r][v] = own[r][v];
}

static inline long floats_per_tile(const DenseLayer& layer) { return static_cast<long>(layer.n_in) * kTileRows; }

template <int kUsed = kVectors>
static void dense(const DenseLayer& layer, const float* bias, const float* in, float* out, float slope) {
    if (layer.activation)
        dense_tiles<kBlock, kUsed>(layer.weight, floats_per_tile(layer), layer.n_in, layer.n_out, in, out,
                                   Active{bias, slope});
    else
        dense_tiles<kBlock, kUsed>(layer.weight, floats_per_tile(layer), layer.n_in, layer.n_out, in, out,
                                   Linear{bias});
}

// The layers but the first, whose outputs stand in `even`; they write to `odd` and `even` by turns. Returns the last
// one's.
template <int kUsed = kVectors>
static const float* further_layers(const DenseLayer* layers, int n_layers, float* even, float* odd, float slope) {
    float *in = even, *out = odd;
    for (int i = 1; i < n_layers; ++i) {
        dense<kUsed>(layers[i], layers[i].bias, in, out, slope);
        std::swap(in, out);
    }
    return in;
}

}  // namespace VSAE_ISA
}  // namespace vsae
