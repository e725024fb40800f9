// Moments of samples of x from the data decoder's outputs.
//
// Samples of a number are x_s = o_s + sigma e_s with independent normal e_s, and all that is asked of them is their
// mean and their variance. Split e into its part along (1, .., 1), its part along the centred outputs, and the rest:
// with a, b ~ N(0, 1) and c ~ chi^2(S - 2), all independent,
//   mean(x) = mean(o) + sigma a / sqrt(S)
//   var(x)  = var(o) + (2 sigma sqrt(S var(o)) b + sigma^2 (b^2 + c)) / S
// has exactly the distribution of the moments of S drawn samples, for three numbers in place of S.
#pragma once

#include "core/importance_impute.h"
#include "core/training_step.h"
#include "cpu/simd.h"

namespace vsae {
namespace VSAE_ISA {

static void sample_moments(const SampleMoments& s) {
    for (long row = 0; row < s.n_rows; ++row) {
        float* total = s.total + row * s.column_stride;
        float* square = s.square + row * s.column_stride;
        for (int c = 0; c < whole_lines(s.n_columns); c += kLanes) {
            Vec sum{}, sum_of_squares{};
            for (long k = 0; k < s.n_samples; ++k) {
                const Vec output = load(s.output + (k * s.n_rows + row) * s.column_stride + c);
                sum += output;
                sum_of_squares += output * output;
            }
            store(total + c, sum);
            store(square + c, sum_of_squares);
        }
        if (!s.uniform) continue;
        for (int a = 0; a < s.n_attributes; ++a)
            if (s.attribute_kind[a] == kCategorical)
                for (int c = s.attribute_start[a]; c < s.attribute_start[a + 1]; ++c) total[c] = square[c] = 0.0f;
        for (long k = 0; k < s.n_samples; ++k) {
            const long sample_row = k * s.n_rows + row;
            const float* logit = s.output + sample_row * s.column_stride;
            const float* uniform = s.uniform + sample_row * s.noise_stride;
            for (int a = 0; a < s.n_attributes; ++a) {
                if (s.attribute_kind[a] != kCategorical) continue;
                // Gumbel's trick: the largest logit - log(-log u) is a draw from the softmax.
                int best = s.attribute_start[a];
                float best_value = -1e38f;
                for (int c = best; c < s.attribute_start[a + 1]; ++c) {
                    const float u = uniform[c] > 1.17549435e-38f ? uniform[c] : 1.17549435e-38f;
                    const float value = logit[c] - __builtin_logf(-__builtin_logf(u));
                    if (value > best_value) {
                        best_value = value;
                        best = c;
                    }
                }
                total[best] += 1.0f;
                square[best] += 1.0f;
            }
        }
    }
}

static void gaussian_moments(const GaussianMoments& g) {
    const auto count = static_cast<float>(g.n_samples);
    const bool spread = g.n_samples > 1, odd = g.n_samples % 2 == 1;
    const long run = static_cast<long>(g.n_rows) * g.noise_stride;
    for (long row = 0; row < g.n_rows; ++row)
        for (int c = 0; c < g.n_columns; c += kLanes) {
            const long at = row * g.column_stride + c, noise = row * g.noise_stride + c;
            const Vec sigma = load(g.numerical + c) * exp(load(g.log_scale + c));
            const Vec a = load(g.normal + noise), b = load(g.normal + run + noise);
            const Vec left = load(g.normal + 2 * run + noise);
            const Vec variance = load(g.variance + at);
            const Vec chi_squared = 2.0f * load(g.gamma + noise) + (odd ? left * left : Vec{});
            const Vec added =
                (2.0f * sigma * square_root(count * variance) * b + sigma * sigma * (b * b + chi_squared)) / count;
            store(g.moment + at, load(g.moment + at) + sigma * a / __builtin_sqrtf(count));
            store(g.variance + at, spread ? max(variance + added, Vec{}) : Vec{});
        }
}

}  // namespace VSAE_ISA
}  // namespace vsae
