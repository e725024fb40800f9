// Random numbers for training: xoshiro128++ (Blackman and Vigna 2021) in sixteen lanes, whatever the vector width, so
// that every instruction set draws the same bits. A stream is named by (seed, number) and started through SplitMix64;
// streams are independent of each other, which lets threads draw theirs in any order.
#pragma once

#include <cstdint>

#include "core/training_step.h"
#include "cpu/simd.h"

namespace vsae {
namespace VSAE_ISA {

typedef std::uint32_t UintVec __attribute__((vector_size(VSAE_LANES * 4)));

static inline std::uint64_t split_mix(std::uint64_t& state) {
    std::uint64_t z = (state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static inline UintVec rotate_left(UintVec x, int k) { return (x << k) | (x >> (32 - k)); }

static inline Vec to_float(UintVec u) {
    IntVec i;
    std::memcpy(&i, &u, sizeof i);
    return __builtin_convertvector(i, Vec);
}

class RandomStream {
   public:
    RandomStream(std::uint64_t seed, std::uint64_t number) {
        std::uint64_t state = seed;
        state = split_mix(state) ^ (number * 0xd1342543de82ef95ull);
        alignas(64) std::uint32_t words[4][kLine];
        for (auto& row : words)
            for (int i = 0; i < kLine; i += 2) {
                const std::uint64_t w = split_mix(state);
                row[i] = static_cast<std::uint32_t>(w);
                row[i + 1] = static_cast<std::uint32_t>(w >> 32);
            }
        std::memcpy(state_, words, sizeof state_);
    }

    // One line of raw words.
    void next(UintVec* out) {
        for (int v = 0; v < kLine / kLanes; ++v) {
            UintVec &a = state_[0][v], &b = state_[1][v], &c = state_[2][v], &d = state_[3][v];
            out[v] = rotate_left(a + d, 7) + a;
            const UintVec t = b << 9;
            c ^= a;
            d ^= b;
            b ^= c;
            a ^= d;
            c ^= t;
            d = rotate_left(d, 11);
        }
    }

   private:
    UintVec state_[4][kLine / kLanes];
};

// Uniform on [0, 1): 24 bits. `floats` counts whole lines.
static void fill_uniform(std::uint64_t seed, std::uint64_t number, float* out, long floats) {
    RandomStream stream(seed, number);
    UintVec words[kLine / kLanes];
    for (long i = 0; i < floats; i += kLine) {
        stream.next(words);
        for (int v = 0; v < kLine / kLanes; ++v) store(out + i + v * kLanes, to_float(words[v] >> 8) * 0x1p-24f);
    }
}

// cos and sin of 2 pi u for u in [0, 1): quarter turns, then polynomials on [-pi/4, pi/4] (Cephes' coefficients).
static inline void turn(Vec u, Vec* cosine, Vec* sine) {
    const float kRound = 12582912.0f;
    const Vec shifted = u * 4.0f + kRound;
    const IntVec quarter = bits(shifted);
    const Vec x = (u * 4.0f - (shifted - kRound)) * 1.57079632679f;
    const Vec square = x * x;
    Vec s = splat(-1.9515295891e-4f);
    s = s * square + 8.3321608736e-3f;
    s = s * square - 1.6666654611e-1f;
    s = s * square * x + x;
    Vec c = splat(2.443315711809948e-5f);
    c = c * square - 1.388731625493765e-3f;
    c = c * square + 4.166664568298827e-2f;
    c = c * square * square - 0.5f * square + 1.0f;
    const IntVec odd = (quarter & 1) == 1;
    const IntVec sign_of_cosine = ((quarter + 1) & 2) << 30;
    const IntVec sign_of_sine = (quarter & 2) << 30;
    *cosine = from_bits(bits(odd ? s : c) ^ sign_of_cosine);
    *sine = from_bits(bits(odd ? c : s) ^ sign_of_sine);
}

// Standard normal by Box and Muller's transform, a line of cosines and a line of sines at a time. `floats` counts whole
// lines.
static void fill_normal(std::uint64_t seed, std::uint64_t number, float* out, long floats) {
    RandomStream stream(seed, number);
    UintVec first[kLine / kLanes], second[kLine / kLanes];
    for (long i = 0; i < floats; i += 2 * kLine) {
        stream.next(first);
        stream.next(second);
        for (int v = 0; v < kLine / kLanes; ++v) {
            const Vec open = (to_float(first[v] >> 8) + 0.5f) * 0x1p-24f;  // in (0, 1)
            // 1 / open is at least 1, as log asks; its own rounding is below that of the 24 bits.
            const Vec radius = square_root(2.0f * log(1.0f / open));
            Vec cosine, sine;
            turn(to_float(second[v] >> 8) * 0x1p-24f, &cosine, &sine);
            store(out + i + v * kLanes, radius * cosine);
            if (i + kLine < floats) store(out + i + kLine + v * kLanes, radius * sine);
        }
    }
}

}  // namespace VSAE_ISA
}  // namespace vsae
