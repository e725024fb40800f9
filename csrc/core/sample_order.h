// Where the samples of a proposal stand in the blocks of the CPU kernel, and which are mirror images of others.
//
// A block has two halves of 16 samples, or of 8 where a row may stop after every block (a look). A segment, of which
// the stopping rule takes the sum, is four lanes of both halves. The last block has halves as short as its samples
// allow, so that the lanes behind them need not be computed. The order is the same under every instruction set.
//
// Mirrored tables of noise (vsae_fast/noise.py) have the negatives of a block's first half in its second.
// Functions have internal linkage: units built for different instruction sets must not share one copy.
#pragma once

namespace vsae {

inline constexpr int kLongHalf = 16;
inline constexpr int kShortHalf = 8;  // half of LOOK in vsae_fast/ops/stopping.py
inline constexpr int kSegmentLanes = 4;
inline constexpr int kSegment = 2 * kSegmentLanes;  // samples; SEGMENT there

// Half of a block of which `n` samples are left: `half`, or a half, a quarter .. of it that is enough.
static inline int half_of_block(int n, int half) {
    while (half > kSegmentLanes && n <= half) half /= 2;
    return half;
}

// Place of sample k of n in [blocks, 2 * half].
static inline long sample_place(int k, int n, int half) {
    const int first = k / (2 * half) * (2 * half), in_block = k - first;
    const int lane = in_block / kSegment * kSegmentLanes + in_block % kSegmentLanes;
    return first + static_cast<long>(in_block % kSegment / kSegmentLanes) * half_of_block(n - first, half) + lane;
}

// The sample that k is the mirror image of in a mirrored table; k itself where it is none.
static inline int original_of(int k) { return k % kSegment < kSegmentLanes ? k : k - kSegmentLanes; }

// Whether noise [n, n_latent] is a mirrored table, and long enough to gain by that.
static inline bool is_mirrored(const float* noise, int n, int n_latent) {
    if (n <= kSegmentLanes) return false;
    for (int k = 0; k < n; ++k) {
        const int original = original_of(k);
        if (original == k) continue;
        for (long l = 0; l < n_latent; ++l)
            if (noise[static_cast<long>(k) * n_latent + l] != -noise[static_cast<long>(original) * n_latent + l])
                return false;
    }
    return true;
}

}  // namespace vsae
