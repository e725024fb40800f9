// Likelihoods of data and mask, importance weights, and their gradients with respect to the decoders' outputs.
#pragma once

#include "core/importance_impute.h"
#include "core/training_step.h"
#include "cpu/level_scores.h"
#include "cpu/simd.h"

namespace vsae {
namespace VSAE_ISA {

// Of the numbers; gradients of levels are kept where there are such beside them.
template <bool kBesideLevels>
static inline Vec score_numbers(const LogWeights& w, const ColumnRange& numbers, long row, long k) {
    constexpr float kHalfLogTwoPi = 0.91893853320467274178f;
    Vec total{};
    for (int c = numbers.first; c < numbers.last; c += kLanes) {
        const long at = row * w.column_stride + c;
        const long out = (row * w.n_samples + k) * w.column_stride + c;
        const Vec numerical = load(w.numerical + c);
        const Vec weight = load(w.column_weight + at) * numerical;
        const Vec precision = load(w.precision + c);
        const Vec residual = load(w.target + at) - load(w.output + out);
        Vec square = residual * residual;
        if (w.variance) square += load(w.variance + at);
        const Vec scaled = square * precision;
        total += weight * (-0.5f * scaled - load(w.log_scale + c) - kHalfLogTwoPi);
        Vec gradient = weight * residual * precision;
        if constexpr (kBesideLevels) gradient = numerical > 0.5f ? gradient : load(w.output_gradient + out);
        store(w.output_gradient + out, gradient);
        store(w.log_scale_gradient + k * w.column_stride + c, weight * (scaled - 1.0f));
    }
    return total;
}

static inline Vec score_mask(const LogWeights& w, long row, long sample_row) {
    Vec total{};
    for (int a = 0; a < whole_lines(w.n_attributes); a += kLanes) {
        const Vec logit = load(w.mask_logits + sample_row * w.attribute_stride + a);
        const Vec mask = load(w.mask + row * w.attribute_stride + a);
        const Vec real = load(w.attribute + a);
        total -= real * softplus(mask > 0.5f ? -logit : logit);
        store(w.mask_gradient + sample_row * w.attribute_stride + a, real * (mask - sigmoid(logit)));
    }
    return total;
}

static inline Vec score_prior(const LogWeights& w, long row, long k) {
    Vec total{};
    for (int l = 0; l < w.n_latent; l += kLanes) {
        const Vec noise = load(w.noise + (k * w.n_rows + row) * w.noise_stride + l);
        const Vec log_variance = load(w.log_variance + row * w.latent_stride + l);
        const Vec z = load(w.z + (row * w.n_samples + k) * w.z_stride + l);
        total += 0.5f * first_lanes(noise * noise - z * z + log_variance, w.n_latent - l);
    }
    return total;
}

// Gradients far below others are zeros before they are denormal numbers, which cost every product that meets them.
inline constexpr float kNegligible = 1e-30f;

static void scale_row(float* h, int columns, float factor) {
    for (int c = 0; c < columns; c += kLanes) {
        const Vec scaled = factor * load(h + c);
        store(h + c, abs(scaled) < kNegligible ? Vec{} : scaled);
    }
}

static void bound_row(const LogWeights& w, const ColumnRange& numbers, long row) {
    const RowBounds& b = *w.bounds;
    const long first = row * w.n_samples;
    const float* log_weight = w.log_weight + first;
    float* factor = b.factor + first;
    double top = log_weight[0], sum = 0;
    for (int k = 1; k < w.n_samples; ++k) top = log_weight[k] > top ? log_weight[k] : top;
    for (int k = 0; k < w.n_samples; ++k) {
        const double weight = __builtin_exp(log_weight[k] - top);
        factor[k] = weight < kNegligible ? 0.0f : static_cast<float>(weight);
        sum += weight;
    }
    b.bound[row] = top + __builtin_log(sum / w.n_samples);
    for (int k = 0; k < w.n_samples; ++k) {
        factor[k] = static_cast<float>(factor[k] * (b.derivative / sum));
        scale_row(w.output_gradient + (first + k) * w.column_stride, whole_lines(w.n_columns), factor[k]);
        if (w.mask_logits)
            scale_row(w.mask_gradient + (first + k) * w.attribute_stride, whole_lines(w.n_attributes), factor[k]);
        for (int c = numbers.first; c < numbers.last; c += kLanes)
            store(b.log_scale_total + c,
                  load(b.log_scale_total + c) + factor[k] * load(w.log_scale_gradient + k * w.column_stride + c));
    }
}

static void log_weights(const LogWeights& w) {
    const ColumnRange numbers(w, kNumerical);
    const LevelScores levels(w);
    for (long begin = w.first; begin < w.last; begin += kLanes) {  // rows whose samples fill all lanes
        const long end = std::min(begin + kLanes, w.last);
        if (!levels.empty()) levels.score(begin * w.n_samples, end * w.n_samples);
        for (long row = begin; row < end; ++row) {
            for (long k = 0; k < w.n_samples; ++k) {
                const long sample = row * w.n_samples + k;
                Vec total =
                    levels.empty() ? score_numbers<false>(w, numbers, row, k) : score_numbers<true>(w, numbers, row, k);
                if (w.mask_logits) total += score_mask(w, row, sample);
                if (w.with_prior) total += score_prior(w, row, k);
                const double of_levels = levels.empty() ? 0.0 : w.log_weight[sample];
                w.log_weight[sample] = static_cast<float>(horizontal_sum(total) + of_levels);
            }
            bound_row(w, numbers, row);
        }
    }
}

static void kl_divergence(const KlDivergence& d) {
    for (long r = 0; r < d.n_rows; ++r) {
        Vec total{};
        for (int l = 0; l < d.n_latent; l += kLanes) {
            const long at = r * d.stride + l;
            const Vec mean = load(d.mean + at), log_variance = load(d.log_variance + at);
            const Vec excess = exp(log_variance) - 1.0f;
            total += 0.5f * first_lanes(mean * mean + (excess - log_variance), d.n_latent - l);
            if (!d.mean_gradient) continue;
            store(d.mean_gradient + at, d.factor * mean);
            store(d.log_variance_gradient + at, 0.5f * d.factor * excess);
        }
        d.kl[r] = horizontal_sum(total);
    }
}

static void draw_latents(const Latents& d) {
    for (long row = d.first; row < d.last; ++row)
        for (int l = 0; l < d.n_latent; l += kLanes) {
            const Vec scale = exp(0.5f * load(d.log_variance + row * d.latent_stride + l));
            const Vec mean = load(d.mean + row * d.latent_stride + l);
            for (long k = 0; k < d.n_samples; ++k) {
                const long at = (k * d.n_rows + row) * d.noise_stride + l;
                const Vec deviation = d.noise ? scale * load_unaligned(d.noise + at) : Vec{};
                store(d.z + (row * d.n_samples + k) * d.z_stride + l, mean + deviation);
            }
        }
}

static void latent_gradient(const LatentGradient& d) {
    for (long row = d.first; row < d.last; ++row)
        for (int l = 0; l < d.n_latent; l += kLanes) {
            const long at = row * d.latent_stride + l;
            const Vec mean = load(d.mean + at);
            Vec of_mean = d.accumulate ? load(d.mean_gradient + at) : Vec{};
            Vec of_log_variance = d.accumulate ? load(d.log_variance_gradient + at) : Vec{};
            for (long sample = row * d.n_samples; sample < (row + 1) * d.n_samples; ++sample) {
                const float prior = d.factor ? d.factor[sample] : 0.0f;
                const Vec z = load(d.z + sample * d.z_stride + l);
                const Vec through = load(d.z_gradient + sample * d.z_stride + l) - prior * z;
                of_mean += through;
                of_log_variance += 0.5f * (prior + through * (z - mean));  // scale noise = z - mean
            }
            store(d.mean_gradient + at, of_mean);
            store(d.log_variance_gradient + at, of_log_variance);
        }
}

}  // namespace VSAE_ISA
}  // namespace vsae
