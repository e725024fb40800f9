// Samples of x from the data decoder's outputs, reduced to sums.
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
            const Vec scale = exp(load(s.log_scale + c));
            const Vec numerical = load(s.numerical + c);
            Vec sum{}, sum_of_squares{};
            for (long k = 0; s.normal && k < s.n_samples; ++k) {
                const long sample_row = k * s.n_rows + row;
                const Vec mean = load(s.output + sample_row * s.column_stride + c);
                const Vec x = numerical * (mean + scale * load(s.normal + sample_row * s.noise_stride + c));
                sum += x;
                sum_of_squares += x * x;
            }
            store(total + c, sum);
            store(square + c, sum_of_squares);
        }
        if (!s.uniform) continue;
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

}  // namespace VSAE_ISA
}  // namespace vsae
