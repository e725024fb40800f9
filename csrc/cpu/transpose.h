// Transposes of small matrices, four by four.
#pragma once

#include "cpu/simd.h"

namespace vsae {
namespace VSAE_ISA {

typedef float Four __attribute__((vector_size(16)));

#if defined(__clang__)
#define VSAE_PICK(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
typedef int FourInts __attribute__((vector_size(16)));
#define VSAE_PICK(a, b, i, j, k, l) __builtin_shuffle(a, b, FourInts{i, j, k, l})
#endif

static inline void transpose_four(const float* const (&from)[4], float* const (&to)[4]) {
    Four row[4], pair[4];
    for (int r = 0; r < 4; ++r) std::memcpy(&row[r], from[r], sizeof(Four));
    pair[0] = VSAE_PICK(row[0], row[1], 0, 4, 1, 5);
    pair[1] = VSAE_PICK(row[2], row[3], 0, 4, 1, 5);
    pair[2] = VSAE_PICK(row[0], row[1], 2, 6, 3, 7);
    pair[3] = VSAE_PICK(row[2], row[3], 2, 6, 3, 7);
    const Four column[4] = {VSAE_PICK(pair[0], pair[1], 0, 1, 4, 5), VSAE_PICK(pair[0], pair[1], 2, 3, 6, 7),
                            VSAE_PICK(pair[2], pair[3], 0, 1, 4, 5), VSAE_PICK(pair[2], pair[3], 2, 3, 6, 7)};
    for (int c = 0; c < 4; ++c) std::memcpy(to[c], &column[c], sizeof(Four));
}

static inline void transpose_block(const float* from, long from_stride, float* to, long to_stride) {
    transpose_four({from, from + from_stride, from + 2 * from_stride, from + 3 * from_stride},
                   {to, to + to_stride, to + 2 * to_stride, to + 3 * to_stride});
}

#undef VSAE_PICK

// to[c][r] = from[r][c].
static void transpose(const float* from, long from_stride, int rows, int columns, float* to, long to_stride) {
    int r = 0;
    for (; r + 4 <= rows; r += 4) {
        int c = 0;
        for (; c + 4 <= columns; c += 4)
            transpose_block(from + r * from_stride + c, from_stride, to + c * to_stride + r, to_stride);
        for (; c < columns; ++c)
            for (int i = r; i < r + 4; ++i) to[c * to_stride + i] = from[i * from_stride + c];
    }
    for (; r < rows; ++r)
        for (int c = 0; c < columns; ++c) to[c * to_stride + r] = from[r * from_stride + c];
}

// to[c - first][lane] = rows[lane][c] for columns first..last-1, a multiple of four of them.
static inline void columns_of_lanes(const float* const (&rows)[kLanes], int first, int last, float* to) {
    for (int c = first; c < last; c += 4)
        for (int r = 0; r < kLanes; r += 4) {
            float* block = to + static_cast<long>(c - first) * kLanes + r;
            transpose_four({rows[r] + c, rows[r + 1] + c, rows[r + 2] + c, rows[r + 3] + c},
                           {block, block + kLanes, block + 2 * kLanes, block + 3 * kLanes});
        }
}

// rows[lane][c] = from[c - first][lane], the way back.
static inline void rows_of_lanes(const float* from, int first, int last, float* const (&rows)[kLanes]) {
    for (int c = first; c < last; c += 4)
        for (int r = 0; r < kLanes; r += 4) {
            const float* block = from + static_cast<long>(c - first) * kLanes + r;
            transpose_four({block, block + kLanes, block + 2 * kLanes, block + 3 * kLanes},
                           {rows[r] + c, rows[r + 1] + c, rows[r + 2] + c, rows[r + 3] + c});
        }
}

}  // namespace VSAE_ISA
}  // namespace vsae
