// Compiled once per instruction set, with VSAE_ISA and VSAE_LANES set by the build.
#include "core/training_step.h"
#include "cpu/level_probabilities.h"
#include "cpu/simd.h"

namespace vsae {
namespace VSAE_ISA {

// Logarithms are added up in double precision; their distance to the largest one is all that single precision must
// hold.
typedef double DoubleVec __attribute__((vector_size(VSAE_LANES * 4)));
static constexpr int kDoubles = VSAE_LANES / 2;
static constexpr int kVectorsPerLine = kLine / kLanes;
static constexpr int kMostChains = 8;  // of multiply-adds at once

static inline DoubleVec load(const double* p) {
    DoubleVec v;
    std::memcpy(&v, __builtin_assume_aligned(p, sizeof(DoubleVec)), sizeof(DoubleVec));
    return v;
}

static inline void store(double* p, DoubleVec v) {
    std::memcpy(__builtin_assume_aligned(p, sizeof(DoubleVec)), &v, sizeof(DoubleVec));
}

// No branch: neither masks nor levels are to be predicted.
static inline int places_of_observed(const PackedMixtures& mixtures, const float* x, const bool* observed, int* place) {
    int count = 0;
    for (int d = 0; d < mixtures.n_levels; ++d) {
        place[count] = d;
        count += observed[d] & (x[d] > 0.5f);
    }
    return count;
}

// Of the classes of all mixtures: log-probability of a class and of the row's levels in it.
template <int kVectors>
static inline void add_logarithms(const PackedMixtures& mixtures, const int* place, int count, int from, double* to) {
    const long stride = mixtures.n_classes();
    DoubleVec sum[kVectors];
    VSAE_UNROLL
    for (int v = 0; v < kVectors; ++v) sum[v] = load(mixtures.log_weight + from + v * kDoubles);
    for (int i = 0; i < count; ++i) {
        const double* own = mixtures.log_level + place[i] * stride + from;
        VSAE_UNROLL
        for (int v = 0; v < kVectors; ++v) sum[v] += load(own + v * kDoubles);
    }
    VSAE_UNROLL
    for (int v = 0; v < kVectors; ++v) store(to + from + v * kDoubles, sum[v]);
}

static inline double largest(const double* values, int n) {
    DoubleVec most = load(values);
    for (int k = kDoubles; k < n; k += kDoubles) {
        const DoubleVec next = load(values + k);
        most = next > most ? next : most;
    }
    double result = most[0];
    for (int i = 1; i < kDoubles; ++i) result = most[i] > result ? most[i] : result;
    return result;
}

// Posterior of a mixture's classes; exactly 0 of those that are negligible.
static inline void normalise(const double* log_joint, int n, float* posterior) {
    const double most = largest(log_joint, n);
    for (int k = 0; k < n; ++k) posterior[k] = static_cast<float>(log_joint[k] - most);
    const Vec least = splat(static_cast<float>(-kNegligibleClass));
    Vec sum{};
    for (int k = 0; k < n; k += kLanes) {
        const Vec distance = load(posterior + k);
        const Vec likelihood = distance < least ? Vec{} : exp_in_range(max(distance, least));
        sum += likelihood;
        store(posterior + k, likelihood);
    }
    const float scale = static_cast<float>(1 / horizontal_sum(sum));
    for (int k = 0; k < n; ++k) posterior[k] *= scale;
}

// Classes whose posterior is not 0 and that posterior, and classes of weight 0 behind them up to a whole number of
// chains. No branch: half of the classes may be likely, in no order.
static inline int likely_classes(const float* posterior, int n, int* likely, float* weight) {
    int count = 0;
    for (int k = 0; k < n; ++k) {
        int bits;
        std::memcpy(&bits, posterior + k, sizeof(bits));
        likely[count] = k;
        std::memcpy(weight + count, &bits, sizeof(bits));
        count += bits != 0;
    }
    for (; count % kMostChains; ++count) {
        likely[count] = 0;
        weight[count] = 0;
    }
    return count;
}

// Vectors of levels, and as many sums of each as hide the latency of a multiply-add.
template <int kVectors>
static inline void average_levels(const PackedMixtures& mixtures, const float* weight, const int* likely, int count,
                                  int from, float* to) {
    constexpr int kChains = kVectors < kMostChains ? kMostChains / kVectors : 1;
    const float* level = mixtures.level + from;
    const long stride = mixtures.level_stride;
    Vec sum[kChains][kVectors]{};
    for (int i = 0; i < count; i += kChains) {
        VSAE_UNROLL
        for (int c = 0; c < kChains; ++c) {
            const Vec own = splat(weight[i + c]);
            const float* in_class = level + likely[i + c] * stride;
            for (int v = 0; v < kVectors; ++v) sum[c][v] += own * load(in_class + v * kLanes);
        }
    }
    VSAE_UNROLL
    for (int v = 0; v < kVectors; ++v) {
        Vec total = sum[0][v];
        for (int c = 1; c < kChains; ++c) total += sum[c][v];
        store(to + from + v * kLanes, total);
    }
}

static inline void keep_observed(const float* x, const bool* observed, const float* average, int n, float* out) {
    static_assert(sizeof(bool) == 1);
    typedef unsigned char ByteVec __attribute__((vector_size(VSAE_LANES)));
    int d = 0;
    for (; d + kLanes <= n; d += kLanes) {
        ByteVec seen;
        std::memcpy(&seen, observed + d, sizeof(seen));
        const IntVec own = __builtin_convertvector(seen, IntVec);
        store_unaligned(out + d, own != 0 ? load_unaligned(x + d) : load(average + d));
    }
    for (; d < n; ++d) out[d] = observed[d] ? x[d] : average[d];
}

static void of_row(const PackedMixtures& mixtures, const float* x, const bool* observed, LevelScratch& scratch,
                   float* out) {
    const int* place = scratch.place.data();
    const int n_observed = places_of_observed(mixtures, x, observed, scratch.place.data());
    const int n = mixtures.n_classes(), each = mixtures.classes_each;
    double* log_joint = scratch.log_joint.data();
    int k = 0;
    for (; k + 8 * kDoubles <= n; k += 8 * kDoubles) add_logarithms<8>(mixtures, place, n_observed, k, log_joint);
    for (; k < n; k += kDoubles) add_logarithms<1>(mixtures, place, n_observed, k, log_joint);

    float* posterior = scratch.posterior.data();
    for (k = 0; k < n; k += each) normalise(log_joint + k, each, posterior + k);
    const int* likely = scratch.likely.data();
    const float* weight = scratch.weight.data();
    const int count = likely_classes(posterior, n, scratch.likely.data(), scratch.weight.data());

    float* average = scratch.average.data();
    int d = 0;
    const auto lines = [&]<int kVectors>() {
        for (; d + kVectors * kLanes <= mixtures.level_stride; d += kVectors * kLanes)
            average_levels<kVectors>(mixtures, weight, likely, count, d, average);
    };
    if constexpr (kVectorsPerLine <= 2) lines.template operator()<4 * kVectorsPerLine>();
    lines.template operator()<2 * kVectorsPerLine>();
    lines.template operator()<kVectorsPerLine>();
    keep_observed(x, observed, average, mixtures.n_levels, out);
}

extern const LevelsOfRow levels_of_row;
const LevelsOfRow levels_of_row = of_row;

}  // namespace VSAE_ISA
}  // namespace vsae
