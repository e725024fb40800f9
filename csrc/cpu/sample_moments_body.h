// First layers of mirrored samples, and sums of E[x | z] over samples of z from the data decoder's outputs.
#pragma once

#include "core/importance_impute.h"
#include "core/training_step.h"
#include "cpu/simd.h"

namespace vsae {
namespace VSAE_ISA {

static void mirror(const MirroredRows& m) {
    const Vec slope = splat(m.slope);
    for (long r = 0; r < m.rows; ++r) {
        const float* centre = m.centre + (m.first_row + r) % m.n_rows * m.stride;
        const float* product = m.product + r * m.stride;
        float* out = m.out + r * m.stride;
        for (int c = 0; c < m.columns; c += kLanes) {
            const Vec sum = load(centre + c) + load(product + c);
            store(out + c, max(sum, slope * sum));
        }
        if (r >= m.images) continue;
        out += static_cast<long>(m.rows) * m.stride;
        for (int c = 0; c < m.columns; c += kLanes) {
            const Vec sum = load(centre + c) - load(product + c);
            store(out + c, max(sum, slope * sum));
        }
    }
}

// Adds the class probabilities of one sample of a row.
static inline void add_probabilities(const SampleMoments& s, const float* logit, float* total) {
    float* share = s.scratch;
    for (int a = 0; a < s.n_attributes; ++a) {
        const int begin = s.attribute_start[a], end = s.attribute_start[a + 1];
        if (s.attribute_kind[a] != kCategorical) {
            for (int c = begin; c < end; ++c) share[c] = 0.0f;
            continue;
        }
        float top = logit[begin];
        for (int c = begin + 1; c < end; ++c) top = logit[c] > top ? logit[c] : top;
        for (int c = begin; c < end; ++c) share[c] = logit[c] - top;
    }
    for (int c = 0; c < s.n_columns; c += kLanes) store(share + c, exp(load(share + c)));
    for (int a = 0; a < s.n_attributes; ++a) {
        if (s.attribute_kind[a] != kCategorical) continue;
        const int begin = s.attribute_start[a], end = s.attribute_start[a + 1];
        float sum = 0;
        for (int c = begin; c < end; ++c) sum += share[c];
        const float inverse = 1.0f / sum;
        for (int c = begin; c < end; ++c) total[c] += share[c] * inverse;
    }
}

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
        if (!s.scratch) continue;
        for (int a = 0; a < s.n_attributes; ++a)
            if (s.attribute_kind[a] == kCategorical)
                for (int c = s.attribute_start[a]; c < s.attribute_start[a + 1]; ++c) total[c] = square[c] = 0.0f;
        for (long k = 0; k < s.n_samples; ++k)
            add_probabilities(s, s.output + (k * s.n_rows + row) * s.column_stride, total);
    }
}

// Mean over the samples of a row, and their deviations from it.
static void centre(const CentredRow& r) {
    for (int c = 0; c < whole_lines(r.n_columns); c += kLanes) {
        Vec sum{};
        for (long s = 0; s < r.n_samples; ++s) sum += load(r.h + s * r.step + c);
        const Vec mean = sum / static_cast<float>(r.n_samples);
        store(r.mean + c, mean);
        for (long s = 0; s < r.n_samples; ++s) store(r.centred + s * r.stride + c, load(r.h + s * r.step + c) - mean);
    }
}

// Sum of products of two runs of whole lines.
static float dot(const float* x, const float* y, long floats) {
    constexpr int kSums = 4;
    Vec sum[kSums] = {};
    for (long i = 0; i < floats; i += kLine)
        for (int v = 0; v < kLine / kLanes; ++v) sum[v % kSums] += load(x + i + v * kLanes) * load(y + i + v * kLanes);
    return horizontal_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

}  // namespace VSAE_ISA
}  // namespace vsae
