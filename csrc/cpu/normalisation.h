// Batch normalisation over (weighted) rows with LeakyReLU behind it, and the way back.
#pragma once

#include "core/training_step.h"
#include "cpu/simd.h"

namespace vsae {
namespace VSAE_ISA {

inline constexpr float kNormEpsilon = 1e-5f;
inline constexpr float kNormMomentum = 0.1f;
inline constexpr float kMinRowsForStatistics = 2;  // with one row the variance is 0 and the layer forgets its input

static inline float row_weight(const Normalisation& n, int row) {
    return n.row_weight ? n.row_weight[row * n.weight_stride] : 1.0f;
}

static inline float weighted_rows(const Normalisation& n) {
    if (!n.row_weight) return static_cast<float>(n.rows);
    float count = 0;
    for (int r = 0; r < n.rows; ++r) count += row_weight(n, r);
    return count;
}

static void normalise(Normalisation& n) {
    const float count = weighted_rows(n);
    n.from_batch = n.training && count >= kMinRowsForStatistics;
    for (int c = 0; c < n.columns; c += kLanes) {
        Vec mean = load(n.running_mean + c);
        Vec variance = load(n.running_var + c);
        if (n.from_batch) {
            Vec sum{};
            for (int r = 0; r < n.rows; ++r) sum += row_weight(n, r) * load(n.h + static_cast<long>(r) * n.stride + c);
            const Vec old_mean = mean, old_variance = variance;
            mean = sum / count;
            Vec square{}, left{};
            for (int r = 0; r < n.rows; ++r) {
                const Vec centred = row_weight(n, r) * (load(n.h + static_cast<long>(r) * n.stride + c) - mean);
                square += centred * centred;
                left += centred;
            }
            // What rounding left of the mean: columns far from zero and hardly varying would feel it.
            const Vec correction = left / count;
            mean += correction;
            square -= count * correction * correction;
            variance = square / count;
            store(n.running_mean + c, old_mean + kNormMomentum * (mean - old_mean));
            store(n.running_var + c, old_variance + kNormMomentum * (square / (count - 1.0f) - old_variance));
        }
        const Vec inverse = reciprocal_square_root(variance + kNormEpsilon);
        store(n.inverse + c, inverse);
        const Vec gamma = load(n.gamma + c), beta = load(n.beta + c);
        for (int r = 0; r < n.rows; ++r) {
            const long at = static_cast<long>(r) * n.stride + c;
            const Vec unit = (load(n.h + at) - mean) * inverse;
            store(n.h + at, unit);
            const Vec y = unit * gamma + beta;
            store(n.out + at, max(y, n.slope * y));
        }
    }
}

static void normalise_backward(const NormalisationGradient& g) {
    const Normalisation& n = g.forward;
    const float count = weighted_rows(n);
    for (int c = 0; c < n.columns; c += kLanes) {
        Sum gamma_sum, beta_sum;  // compensated: Adam turns the sign of a gradient that should be zero into a step
        for (int r = 0; r < n.rows; ++r) {
            const long at = static_cast<long>(r) * n.stride + c;
            const Vec above = load(g.gradient + at);
            const Vec d = load(n.out + at) > 0.0f ? above : n.slope * above;
            store(g.gradient + at, d);
            gamma_sum.add(d * load(n.h + at));
            beta_sum.add(d);
        }
        const Vec of_gamma = gamma_sum.total, of_beta = beta_sum.total;
        store(g.gamma + c, of_gamma);
        store(g.beta + c, of_beta);
        const Vec factor = load(n.gamma + c) * load(n.inverse + c);
        const Vec mean_beta = n.from_batch ? of_beta / count : Vec{};
        const Vec mean_gamma = n.from_batch ? of_gamma / count : Vec{};
        for (int r = 0; r < n.rows; ++r) {
            const long at = static_cast<long>(r) * n.stride + c;
            const Vec through = load(g.gradient + at) - row_weight(n, r) * (mean_beta + load(n.h + at) * mean_gamma);
            store(g.gradient + at, factor * through);
        }
    }
}

}  // namespace VSAE_ISA
}  // namespace vsae
