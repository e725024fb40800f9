// A vector of floats in the compiler's own vector extension (GCC, Clang), so that one kernel body serves SSE2, AVX2,
// AVX-512 and NEON. Included only by translation units that define VSAE_ISA (a namespace) and VSAE_LANES; everything
// here has internal linkage because the same inline function compiled for two instruction sets must never be merged.
#pragma once

#include <cstring>

// Before a loop over an array of vectors that must live in registers: GCC gives up on arrays of more than a dozen.
#if defined(__clang__)
#define VSAE_UNROLL _Pragma("unroll")
#define VSAE_UNROLL_BY_FOUR _Pragma("unroll 4")
#else
#define VSAE_UNROLL _Pragma("GCC unroll 16")
#define VSAE_UNROLL_BY_FOUR _Pragma("GCC unroll 4")
#endif

namespace vsae {
namespace VSAE_ISA {

inline constexpr int kLanes = VSAE_LANES;

typedef float Vec __attribute__((vector_size(VSAE_LANES * 4)));
typedef int IntVec __attribute__((vector_size(VSAE_LANES * 4)));

static inline Vec load(const float* p) {
    Vec v;
    std::memcpy(&v, __builtin_assume_aligned(p, sizeof(Vec)), sizeof(Vec));
    return v;
}

static inline void store(float* p, Vec v) { std::memcpy(__builtin_assume_aligned(p, sizeof(Vec)), &v, sizeof(Vec)); }

static inline Vec load_unaligned(const float* p) {
    Vec v;
    std::memcpy(&v, p, sizeof(Vec));
    return v;
}

static inline void store_unaligned(float* p, Vec v) { std::memcpy(p, &v, sizeof(Vec)); }

static inline Vec splat(float x) { return Vec{} + x; }

static inline IntVec bits(Vec v) {
    IntVec i;
    std::memcpy(&i, &v, sizeof(Vec));
    return i;
}

static inline Vec from_bits(IntVec i) {
    Vec v;
    std::memcpy(&v, &i, sizeof(Vec));
    return v;
}

static inline Vec max(Vec a, Vec b) { return a > b ? a : b; }  // b where a is NaN
static inline Vec min(Vec a, Vec b) { return a < b ? a : b; }
static inline Vec abs(Vec a) { return from_bits(bits(a) & 0x7fffffff); }

// The first `count` lanes, zeros behind them.
static inline Vec first_lanes(Vec v, int count) {
    IntVec lane;
    for (int i = 0; i < kLanes; ++i) lane[i] = i;
    return lane < count ? v : Vec{};
}

static inline Vec square_root(Vec v) {
    Vec r;
    for (int i = 0; i < kLanes; ++i) r[i] = __builtin_sqrtf(v[i]);  // one instruction, -fno-math-errno given
    return r;
}

static inline Vec reciprocal_square_root(Vec v) { return 1.0f / square_root(v); }

// A sum that keeps what rounding drops (Kahan). Log-weights reach hundreds while weights depend on their difference, so
// plain summation would cost the result the digits that eager PyTorch keeps with its pairwise sums.
struct Sum {
    Vec total{};
    Vec dropped{};

    void add(Vec term) {
        const Vec corrected = term - dropped;
        const Vec next = total + corrected;
        dropped = (next - total) - corrected;
        total = next;
    }
    // The sum minus `reference`, to full precision where the two are close.
    Vec relative_to(float reference) const { return (total - reference) - dropped; }
};

static inline float horizontal_max(Vec v) {
    float m = v[0];
    for (int i = 1; i < kLanes; ++i) m = v[i] > m ? v[i] : m;
    return m;
}

static inline double horizontal_sum(Vec v) {
    double s = 0;
    for (int i = 0; i < kLanes; ++i) s += v[i];
    return s;
}

// exp(x) to 1 ulp for x in [-87.3, 88]. Cody-Waite reduction by ln 2, then a degree 6 minimax polynomial (the
// coefficients of Cephes' expf).
static inline Vec exp_in_range(Vec x) {
    const float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer held in the low mantissa bits
    const Vec shifted = x * 1.44269504f + kRound;
    const Vec n = shifted - kRound;
    const Vec r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    Vec p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return from_bits(bits(p) + ((bits(shifted) - 0x4b400000) << 23));
}

// exp(x) for any x: exactly 0 below -87.3, saturated above 88.
static inline Vec exp(Vec x) { return x < -87.3f ? Vec{} : exp_in_range(min(max(x, splat(-87.3f)), splat(88.0f))); }

// exp(x) for x <= 0, never below exp(-87.3): for terms that are added to 1.
static inline Vec exp_negative(Vec x) { return exp_in_range(max(x, splat(-87.3f))); }

// log(x) for normal x >= 1 to 0.8 ulp (the coefficients of Cephes' logf).
static inline Vec log(Vec x) {
    const IntVec i = bits(x);
    const IntVec exponent = ((i - 0x3f3504f3) >> 23);  // mantissa in [sqrt(1/2), sqrt(2))
    const Vec m = from_bits(i - (exponent << 23)) - 1.0f;
    const Vec e = __builtin_convertvector(exponent, Vec);
    Vec p = splat(7.0376836292e-2f);
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    const Vec square = m * m;
    return (p * m * square + e * -2.12194440e-4f - 0.5f * square + m) + e * 0.693359375f;
}

// 1 / (1 + exp(-x)) for any x: both tails keep their relative precision down to exp(-87.3); to 2.3 ulp.
static inline Vec sigmoid(Vec x) {
    const Vec tail = exp_negative(-abs(x));
    return (x < 0.0f ? tail : splat(1.0f)) / (1.0f + tail);
}

// log(1 + exp(x)) for any x, to 1.5e-7 absolutely: it stands beside log-likelihoods of order 1.
static inline Vec softplus(Vec x) { return max(x, Vec{}) + log(1.0f + exp_negative(-abs(x))); }

}  // namespace VSAE_ISA
}  // namespace vsae
