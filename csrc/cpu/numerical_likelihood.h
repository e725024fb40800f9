// log p(x_o | z) of observed numerical attributes over a block of samples.
//
//  * narrow ones: 1/scale and the observed value are folded into the output rows, log p = -|W'h + b'|^2 / 2;
//  * wide ones (images): -|R h - u|^2 / 2 - rest / 2 with a triangular R (core/importance_impute.h).
#pragma once

#include <cmath>

#include "core/impute_scratch.h"
#include "cpu/dense.h"
#include "cpu/impute_row.h"

namespace vsae {
namespace VSAE_ISA {

inline constexpr int kSquaresPerSum = 16;  // terms summed plainly before they join the compensated log-weight

class NumericalLikelihood {
   public:
    NumericalLikelihood(const ImportanceImputeModel& model, const ImputeScratch& scratch)
        : model_(model), scratch_(scratch) {}

    // Returns the part of the log-likelihood that does not depend on the sample.
    double prepare(const ImputeRow& row) {
        constexpr double kHalfLogTwoPi = 0.91893853320467274178;
        double constant = 0;
        n_narrow_ = 0;
        for (int a = 0; a < model_.n_attributes; ++a) {
            if (!row.numerical(a) || !row.observed(a)) continue;
            for (int c = row.start(a); c < row.end(a); ++c) constant -= kHalfLogTwoPi + model_.log_scale[c];
            if (row.wide(a))
                constant -= 0.5 * project(row, a);
            else
                fold(row, a);
        }
        for (int out = n_narrow_; out < padded(n_narrow_); ++out) {
            pack_row(scratch_.output_weight, out, model_.n_hidden, nullptr, nullptr, 0.0f);
            scratch_.output_bias[out] = 0.0f;
        }
        return constant;
    }

    void score(const ImputeRow& row, const float* hidden, float weight, Sum* log_weight) const {
        const float factor = -0.5f * weight;
        dense_tiles(scratch_.output_weight, static_cast<long>(model_.n_hidden) * kTileRows, model_.n_hidden, n_narrow_,
                    hidden, scratch_.output, Linear{scratch_.output_bias});
        for (int v = 0; v < kVectors; ++v)
            for (int j = 0; j < n_narrow_; ++j) {
                const Vec residual = load(scratch_.output + j * kBlock + v * kLanes);
                log_weight[v].add(factor * residual * residual);
            }
        for (int i = 0; i < model_.n_wide; ++i) {
            if (!row.observed(model_.wide[i].attribute)) continue;
            dense_triangle(model_.wide[i].triangle, wide_bias(i), model_.n_hidden, hidden, scratch_.output);
            for (int v = 0; v < kVectors; ++v)
                for (int begin = 0; begin < model_.n_hidden; begin += kSquaresPerSum) {
                    const int end = begin + kSquaresPerSum < model_.n_hidden ? begin + kSquaresPerSum : model_.n_hidden;
                    Vec sum{};
                    for (int j = begin; j < end; ++j) {
                        const Vec residual = load(scratch_.output + j * kBlock + v * kLanes);
                        sum += residual * residual;
                    }
                    log_weight[v].add(factor * sum);
                }
        }
    }

   private:
    const ImportanceImputeModel& model_;
    const ImputeScratch& scratch_;
    int n_narrow_ = 0;  // observed narrow columns

    float* wide_bias(int i) const { return scratch_.wide_bias + static_cast<long>(i) * padded(model_.n_hidden); }

    void fold(const ImputeRow& row, int attribute) {
        for (int c = row.start(attribute); c < row.end(attribute); ++c, ++n_narrow_) {
            const float inverse = static_cast<float>(std::exp(-static_cast<double>(model_.log_scale[c])));
            pack_row(scratch_.output_weight, n_narrow_, model_.n_hidden, row.output_row(c), nullptr, inverse);
            scratch_.output_bias[n_narrow_] =
                static_cast<float>((static_cast<double>(model_.output_bias[c]) - row.x[c]) * inverse);
        }
    }

    // u = Q'y for y = (x - b) / scale, as the negative bias of R h; returns |y|^2 - |u|^2.
    double project(const ImputeRow& row, int attribute) {
        const int n = model_.n_hidden, wide = model_.wide_of[attribute];
        double* u = scratch_.projected;
        for (int j = 0; j < n; ++j) u[j] = 0;
        double square = 0;
        const float* q = model_.wide[wide].projection;
        for (int c = row.start(attribute); c < row.end(attribute); ++c, q += n) {
            const double y = (static_cast<double>(row.x[c]) - model_.output_bias[c]) *
                             std::exp(-static_cast<double>(model_.log_scale[c]));
            square += y * y;
            for (int j = 0; j < n; ++j) u[j] += y * static_cast<double>(q[j]);
        }
        float* bias = wide_bias(wide);
        for (int j = 0; j < padded(n); ++j) bias[j] = j < n ? static_cast<float>(-u[j]) : 0.0f;
        for (int j = 0; j < n; ++j) square -= u[j] * u[j];
        return square;
    }
};

}  // namespace VSAE_ISA
}  // namespace vsae
