// Where the samples of a proposal stand in the blocks of the CPU kernel, and which are mirror images of others.
//
// A block has two halves of 16 samples; after every block a row may stop (a look). A segment, of which the stopping
// rule takes the sum, is eight lanes of both halves. The order is the same under every instruction set.
//
// Mirrored tables of noise (vsae_fast/noise.py) have the negatives of a block's first half in its second.
// Functions have internal linkage: units built for different instruction sets must not share one copy.
#pragma once

namespace vsae {

inline constexpr int kBlockLanes = 16;
inline constexpr int kBlock = 2 * kBlockLanes;  // samples; LOOK in vsae_fast/ops/stopping.py
inline constexpr int kSegmentLanes = 8;
inline constexpr int kSegment = 2 * kSegmentLanes;  // samples; SEGMENT there
inline constexpr int kSegmentsPerBlock = kBlock / kSegment;

// Place of sample k in [blocks, 2, lanes].
static inline long sample_place(int k) {
    const int half = k % kSegment / kSegmentLanes;
    const int lane = k % kBlock / kSegment * kSegmentLanes + k % kSegmentLanes;
    return static_cast<long>(k / kBlock) * kBlock + half * kBlockLanes + lane;
}

// Blocks that hold the first n samples.
static inline int blocks_of_samples(int n) { return (n + kBlock - 1) / kBlock; }

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
