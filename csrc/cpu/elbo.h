// Evidence lower bounds of rows and their gradients (Gong et al. 2021, equations 4 to 10; Burda et al. 2016).
//
//   without noise:  sum_i weight_i E log p(x_i | z) + log p(m | z) - KL(q(z) || N(0, I)),           one sample of z
//   with noise:     log 1/K sum_k exp(sum_i weight_i log p(x_i | z_k) + log p(m | z_k) + log N(z_k; 0, I) - log q(z_k))
#pragma once

#include <vector>

#include "cpu/cpu_level.h"

namespace vsae {

struct Elbo {
    int n_samples;  // K; 1 without noise
    int n_rows;     // N
    int n_latent;   // L
    std::vector<int> attribute_start, attribute_kind;
    const float* output;            // [K, N, D]
    const float* log_scale;         // [D]
    const float* mask_logits;       // [K, N, M]
    const float* target;            // [N, D] values and one-hot levels, or the samples' means and frequencies
    const float* target_variance;   // [N, D], or null
    const float* mask;              // [N, M]
    const float* attribute_weight;  // [N, M]
    const float* mean;              // [N, L]
    const float* log_variance;      // [N, L]
    const float* noise;             // [K, N, L] that gave the samples of z, or null
};

struct ElboGradients {
    float* output;        // [K, N, D]
    float* log_scale;     // [D]
    float* mask_logits;   // [K, N, M]
    float* mean;          // [N, L]
    float* log_variance;  // [N, L]
};

void elbo(const Elbo& op, float* bound, int n_threads, CpuLevel level);  // [N]

void elbo_backward(const Elbo& op, const float* bound_gradient, const ElboGradients& gradients, int n_threads,
                   CpuLevel level);

}  // namespace vsae
