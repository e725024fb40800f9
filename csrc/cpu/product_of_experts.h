// The product of a standard normal prior and of the Gaussian experts of a row's visible attributes, and its gradient:
//   precision 1 + sum_i e^-v_i, mean sum_i e^-v_i m_i / precision.
#pragma once

#include "core/training_step.h"
#include "cpu/simd.h"

namespace vsae {
namespace VSAE_ISA {

static inline Vec precision_of(Vec log_variance) {
    const Vec limit = splat(kLogVarianceLimit);
    return exp(-max(min(log_variance, limit), -limit));
}

static void combine_experts(const Experts& e) {
    for (long row = e.first; row < e.last; ++row)
        for (int l = 0; l < e.n_latent; l += kLanes) {
            Vec total = splat(1.0f), weighted{};
            for (int a = 0; a < e.n_attributes; ++a) {
                if (!(e.visible[row * e.attribute_stride + a] > 0)) continue;
                const float* proposal = e.proposals[a] + row * 2 * e.latent_stride + l;
                const Vec precision = precision_of(load(proposal + e.latent_stride));
                total += precision;
                weighted += precision * load(proposal);
            }
            store(e.mean + row * e.latent_stride + l, weighted / total);
            store(e.log_variance + row * e.latent_stride + l, -log(total));
        }
}

// Adds to the gradients of the visible experts; where a log-variance was cut off it has none.
static void separate_experts(const Experts& e, const float* mean_gradient, const float* log_variance_gradient,
                             float* const* gradients) {
    for (long row = e.first; row < e.last; ++row)
        for (int l = 0; l < e.n_latent; l += kLanes) {
            const long at = row * e.latent_stride + l;
            const Vec mean = load(e.mean + at), inverse = exp(load(e.log_variance + at));
            const Vec of_mean = load(mean_gradient + at), of_log_variance = load(log_variance_gradient + at);
            for (int a = 0; a < e.n_attributes; ++a) {
                if (!(e.visible[row * e.attribute_stride + a] > 0)) continue;
                const long own = row * 2 * e.latent_stride + l;
                const Vec expert = load(e.proposals[a] + own), raw = load(e.proposals[a] + own + e.latent_stride);
                const Vec share = precision_of(raw) * inverse;
                float* gradient = gradients[a] + own;
                store(gradient, load(gradient) + share * of_mean);
                gradient += e.latent_stride;
                const Vec through = share * (of_log_variance - of_mean * (expert - mean));
                store(gradient, load(gradient) + (abs(raw) > kLogVarianceLimit ? Vec{} : through));
            }
        }
}

}  // namespace VSAE_ISA
}  // namespace vsae
