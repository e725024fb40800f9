// Packed weights of a dense layer, shared by every kernel that keeps samples in lanes.
//
// A layer y = W x + b with W[out][in] is stored in tiles of kTileRows outputs:
//   packed[tile][in][kTileRows],  tile = out / kTileRows
// so that the inner loop reads kTileRows consecutive weights for each input. Rows past `out` are zero.
// Functions have internal linkage: units built for different instruction sets must not share one copy.
#pragma once

namespace vsae {

inline constexpr int kTileRows = 4;

static constexpr int tiles(int n_out) { return (n_out + kTileRows - 1) / kTileRows; }
static constexpr int padded(int n_out) { return tiles(n_out) * kTileRows; }

// Writes row `out` of a packed layer: packed(out, i) = factor * (weight[i] - shift[i]); `shift` may be null.
static inline void pack_row(float* packed, int out, int n_in, const float* weight, const float* shift, float factor) {
    float* tile = packed + static_cast<long>(out / kTileRows) * n_in * kTileRows + out % kTileRows;
    for (int i = 0; i < n_in; ++i) {
        const float w = weight ? weight[i] - (shift ? shift[i] : 0.0f) : 0.0f;
        tile[static_cast<long>(i) * kTileRows] = factor * w;
    }
}

// Upper triangular [n, n] matrices, row-major in `matrix`: tile t holds only the inputs from its first row on.
static constexpr long triangle_floats(int n) {
    long floats = 0;
    for (int first = 0; first < n; first += kTileRows) floats += static_cast<long>(n - first) * kTileRows;
    return floats;
}

static inline void pack_triangle(float* packed, int n, const float* matrix) {
    for (int first = 0; first < n; first += kTileRows)
        for (int i = first; i < n; ++i)
            for (int r = first; r < first + kTileRows; ++r)
                *packed++ = r < n && i >= r ? matrix[static_cast<long>(r) * n + i] : 0.0f;
}

}  // namespace vsae
