// Where the samples of a proposal stand in the blocks of the CPU kernel, and which are mirror images of others.
//
// A block has kBlockVectors vectors of samples, 4, 8 or 16 lanes wide. A segment, of which the stopping rule takes the
// sum, is 8 lanes of the three; a look, after which a row may stop, is 16: two segments side by side in one wide
// block, one after the other in narrower ones. So segments are the same samples under every instruction set.
//
// Mirrored tables of noise (vsae_fast/noise.py) have the negative of the first vector in the second, and in the third
// of every other look the negative of the third of the look before.
// Functions have internal linkage: units built for different instruction sets must not share one copy.
#pragma once

namespace vsae {

inline constexpr int kBlockVectors = 3;
inline constexpr int kSegmentLanes = 8;
inline constexpr int kLookLanes = 16;
inline constexpr int kSegment = kBlockVectors * kSegmentLanes;  // samples; SEGMENT in vsae_fast/ops/stopping.py
inline constexpr int kLook = kBlockVectors * kLookLanes;        // samples; LOOK there
inline constexpr int kSegmentsPerLook = kLookLanes / kSegmentLanes;

// Place of sample k in [blocks, vectors, lanes].
static inline long sample_place(int k, int lanes) {
    const int vector = k % kSegment / kSegmentLanes;
    const int lane = k % kLook / kSegment * kSegmentLanes + k % kSegmentLanes;
    const long block = static_cast<long>(k / kLook) * (kLookLanes / lanes) + lane / lanes;
    return (block * kBlockVectors + vector) * lanes + lane % lanes;
}

// Blocks that hold the first n samples.
static inline int blocks_of_samples(int n, int lanes) {
    long last = 0;
    for (int k = (n - 1) / kLook * kLook; k < n; ++k) {
        const long place = sample_place(k, lanes);
        last = place > last ? place : last;
    }
    return static_cast<int>(last / (static_cast<long>(kBlockVectors) * lanes)) + 1;
}

// The sample that k is the mirror image of in a mirrored table; k itself where it is none.
static inline int original_of(int k) {
    const int vector = k % kSegment / kSegmentLanes;
    if (vector == 1) return k - kSegmentLanes;
    return vector == 2 && k / kLook % 2 == 1 ? k - kLook : k;
}

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
