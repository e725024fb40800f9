// Batch normalisation over (weighted) rows with LeakyReLU behind it, and the way back.
#pragma once

#include "core/training_step.h"
#include "cpu/simd.h"

namespace vsae {
namespace VSAE_ISA {

inline constexpr float kNormEpsilon = 1e-5f;
inline constexpr float kNormMomentum = 0.1f;
inline constexpr float kMinRowsForStatistics = 2;  // with one row the variance is 0 and the layer forgets its input

static inline float row_weight(const Normalisation& n, long row) {
    return n.row_weight ? n.row_weight[row * n.weight_stride] : 1.0f;
}

static inline float weighted_rows(const Normalisation& n) {
    if (!n.row_weight) return static_cast<float>(n.rows);
    float count = 0;
    for (int r = 0; r < n.rows; ++r) count += row_weight(n, r);
    return count;
}

// Mean, and sum of squared deviations from it, of columns c.. over rows first..last-1 that together weigh `count`.
static inline void column_moments(const Normalisation& n, int c, int first, int last, float count, Vec* mean,
                                  Vec* square) {
    Vec sum{};
    for (long r = first; r < last; ++r) sum += row_weight(n, r) * load(n.h + r * n.stride + c);
    const Vec about = sum / count;
    Vec squares{}, left{};
    for (long r = first; r < last; ++r) {
        const Vec centred = row_weight(n, r) * (load(n.h + r * n.stride + c) - about);
        squares += centred * centred;
        left += centred;
    }
    // What rounding left of the mean: columns far from zero and hardly varying would feel it.
    const Vec correction = left / count;
    *mean = about + correction;
    *square = squares - count * correction * correction;
}

// Takes a batch's statistics for columns c.., and follows them with the running ones.
static inline void set_statistics(const Normalisation& n, int c, float count, Vec mean, Vec square) {
    const Vec old_mean = load(n.running_mean + c), old_variance = load(n.running_var + c);
    store(n.running_mean + c, old_mean + kNormMomentum * (mean - old_mean));
    store(n.running_var + c, old_variance + kNormMomentum * (square / (count - 1.0f) - old_variance));
    store(n.mean + c, mean);
    store(n.inverse + c, reciprocal_square_root(square / count + kNormEpsilon));
}

static inline void use_running_statistics(const Normalisation& n, int c) {
    store(n.mean + c, load(n.running_mean + c));
    store(n.inverse + c, reciprocal_square_root(load(n.running_var + c) + kNormEpsilon));
}

static inline void normalise_column(const Normalisation& n, int c, int first, int last) {
    const Vec mean = load(n.mean + c), inverse = load(n.inverse + c);
    const Vec gamma = load(n.gamma + c), beta = load(n.beta + c);
    for (long r = first; r < last; ++r) {
        const long at = r * n.stride + c;
        const Vec unit = (load(n.h + at) - mean) * inverse;
        store(n.h + at, unit);
        const Vec y = unit * gamma + beta;
        store(n.out + at, max(y, n.slope * y));
    }
}

static void normalise(Normalisation& n) {
    const float count = weighted_rows(n);
    n.from_batch = n.training && count >= kMinRowsForStatistics;
    for (int c = 0; c < n.columns; c += kLanes) {
        if (n.from_batch) {
            Vec mean, square;
            column_moments(n, c, 0, n.rows, count, &mean, &square);
            set_statistics(n, c, count, mean, square);
        } else {
            use_running_statistics(n, c);
        }
        normalise_column(n, c, 0, n.rows);
    }
}

// The same in parts, for many rows of weight 1: moments of each part, statistics of all, values of each.
static void moments_of_rows(const Normalisation& n, const RowMoments& part) {
    const auto count = static_cast<float>(part.last - part.first);
    for (int c = 0; c < n.columns; c += kLanes) {
        Vec mean, square;
        column_moments(n, c, part.first, part.last, count, &mean, &square);
        store(part.mean + c, mean);
        store(part.square + c, square);
    }
}

// Chan, Golub and LeVeque (1983), part by part in order.
static void merge_moments(Normalisation& n, const RowMoments* parts, int n_parts) {
    n.from_batch = n.training;
    for (int c = 0; c < n.columns; c += kLanes) {
        if (!n.from_batch) {
            use_running_statistics(n, c);
            continue;
        }
        Vec mean{}, square{};
        float count = 0;
        for (const RowMoments* part = parts; part < parts + n_parts; ++part) {
            const auto rows = static_cast<float>(part->last - part->first);
            const Vec apart = load(part->mean + c) - mean;
            const float share = rows / (count + rows);
            mean += share * apart;
            square += load(part->square + c) + count * share * apart * apart;
            count += rows;
        }
        set_statistics(n, c, count, mean, square);
    }
}

static void normalise_rows(const Normalisation& n, int first, int last) {
    for (int c = 0; c < n.columns; c += kLanes) normalise_column(n, c, first, last);
}

// Takes the gradient of rows first..last-1 back through the activation; the sums are those of gamma's and beta's
// gradients.
static inline void column_gradient_sums(const NormalisationGradient& g, int c, int first, int last, Vec* of_gamma,
                                        Vec* of_beta) {
    const Normalisation& n = g.forward;
    Sum gamma_sum, beta_sum;  // compensated: Adam turns the sign of a gradient that should be zero into a step
    for (long r = first; r < last; ++r) {
        const long at = r * n.stride + c;
        const Vec above = load(g.gradient + at);
        const Vec d = load(n.out + at) > 0.0f ? above : n.slope * above;
        store(g.gradient + at, d);
        gamma_sum.add(d * load(n.h + at));
        beta_sum.add(d);
    }
    *of_gamma = gamma_sum.total;
    *of_beta = beta_sum.total;
}

static inline void column_gradient(const NormalisationGradient& g, int c, int first, int last, float count) {
    const Normalisation& n = g.forward;
    const Vec factor = load(n.gamma + c) * load(n.inverse + c);
    const Vec mean_beta = n.from_batch ? load(g.beta + c) / count : Vec{};
    const Vec mean_gamma = n.from_batch ? load(g.gamma + c) / count : Vec{};
    for (long r = first; r < last; ++r) {
        const long at = r * n.stride + c;
        const Vec through = load(g.gradient + at) - row_weight(n, r) * (mean_beta + load(n.h + at) * mean_gamma);
        store(g.gradient + at, factor * through);
    }
}

static void normalise_backward(const NormalisationGradient& g) {
    const Normalisation& n = g.forward;
    const float count = weighted_rows(n);
    for (int c = 0; c < n.columns; c += kLanes) {
        Vec of_gamma, of_beta;
        column_gradient_sums(g, c, 0, n.rows, &of_gamma, &of_beta);
        store(g.gamma + c, of_gamma);
        store(g.beta + c, of_beta);
        column_gradient(g, c, 0, n.rows, count);
    }
}

// The same in parts: sums of the rows first..last-1, which `g` gets where gamma and beta point; then, with those of all
// rows there, the rows' gradients.
static void gradient_sums_of_rows(const NormalisationGradient& g, int first, int last) {
    for (int c = 0; c < g.forward.columns; c += kLanes) {
        Vec of_gamma, of_beta;
        column_gradient_sums(g, c, first, last, &of_gamma, &of_beta);
        store(g.gamma + c, of_gamma);
        store(g.beta + c, of_beta);
    }
}

static void gradient_of_rows(const NormalisationGradient& g, int first, int last) {
    for (int c = 0; c < g.forward.columns; c += kLanes)
        column_gradient(g, c, first, last, static_cast<float>(g.forward.rows));
}

// to = sum of n_parts runs of floats, `step` apart, in order.
static void sum_parts(const float* parts, long step, int n_parts, float* to, long floats) {
    for (long i = 0; i < floats; i += kLanes) {
        Vec sum = load(parts + i);
        for (int part = 1; part < n_parts; ++part) sum += load(parts + part * step + i);
        store(to + i, sum);
    }
}

}  // namespace VSAE_ISA
}  // namespace vsae
