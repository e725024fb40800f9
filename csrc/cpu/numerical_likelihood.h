// log p(x_o | z) of observed numerical attributes over a block of samples.
//
//  * narrow ones: log p = -|(W h + b - x) / scale|^2 / 2 with the output rows of what is observed;
//  * wide ones (images): -|R h - u|^2 / 2 - rest / 2 with a triangular R (core/importance_impute.h).
#pragma once

#include <cmath>

#include "cpu/dense.h"
#include "cpu/impute_row.h"
#include "cpu/impute_scratch.h"

namespace vsae {
namespace VSAE_ISA {

inline constexpr int kSquaresPerSum = 16;  // terms summed plainly before they join the compensated log-weight

class NumericalLikelihood {
   public:
    NumericalLikelihood(const ImportanceImputeModel& model, const ImportanceImputeBatch& batch,
                        const ImputeScratch& scratch)
        : model_(model), batch_(batch), scratch_(scratch) {}

    // Returns the part of the log-likelihood that does not depend on the sample.
    double prepare(const ImputeRow& row) {
        constexpr double kHalfLogTwoPi = 0.91893853320467274178;
        double constant = 0;
        n_narrow_ = 0;
        for (int a = 0; a < model_.n_attributes; ++a) {
            if (!row.numerical(a)) continue;
            const bool observed = row.observed(a);
            if (row.width(a) > 1 && !observed) continue;
            // No branch where a column stands alone: masks are not to be predicted.
            for (int c = row.start(a); c < row.end(a); ++c)
                constant -= observed ? kHalfLogTwoPi + model_.log_scale[c] : 0.0;
            if (row.wide(a))
                constant -= 0.5 * project(row, a);
            else
                take(row, a, observed);
        }
        for (int i = 0; i < kMostRowsAtOnce; ++i) scratch_.output_row[n_narrow_ + i] = model_.output_weight;  // unused
        return constant;
    }

    // Of the first kUsed vectors of the block.
    template <int kUsed>
    void score(const ImputeRow& row, const float* hidden, float weight, Sum* log_weight) const {
        constexpr int kRowsAtOnce = kSumsAtOnce / kCount<kUsed>;
        const float factor = -0.5f * weight;
        int first = 0;
        for (; n_narrow_ - first > kRowsAtOnce / 2; first += kRowsAtOnce)
            score_rows<kRowsAtOnce, kUsed>(first, hidden, factor, log_weight);
        if (first < n_narrow_) score_rows<kRowsAtOnce / 2, kUsed>(first, hidden, factor, log_weight);
        for (int i = 0; i < model_.n_wide; ++i) {
            if (!row.observed(model_.wide[i].attribute)) continue;
            dense_triangle<kUsed>(model_.wide[i].triangle, wide_bias(i), model_.n_hidden, hidden, scratch_.output);
            for (int v = 0; v < kUsed; ++v)
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
    template <int kUsed>
    static constexpr int kCount = kUsed < kVectorsAtOnce ? kUsed : kVectorsAtOnce;
    const ImportanceImputeModel& model_;
    const ImportanceImputeBatch& batch_;
    const ImputeScratch& scratch_;
    int n_narrow_ = 0;  // observed narrow columns

    // The bias comes last: a large one (an observed value far from the mean) would cost every partial sum its digits.
    template <int kRows, int kUsed>
    void score_rows(int first, const float* hidden, float factor, Sum* log_weight) const {
        const int n = n_narrow_ - first < kRows ? n_narrow_ - first : kRows;
        for (int begin = 0; begin < kUsed; begin += kCount<kUsed>) {
            Vec output[kRows][kCount<kUsed>];
            products_of_rows<kBlock>(scratch_.output_row + first, model_.n_hidden, hidden + begin * kLanes, output);
            for (int r = 0; r < n; ++r)
                for (int v = 0; v < kCount<kUsed>; ++v) {
                    const Vec residual =
                        (output[r][v] + scratch_.output_bias[first + r]) * scratch_.output_inverse[first + r];
                    log_weight[begin + v].add(factor * residual * residual);
                }
        }
    }

    float* wide_bias(int i) const { return scratch_.wide_bias + static_cast<long>(i) * padded(model_.n_hidden); }

    // What is not observed is overwritten by the next.
    void take(const ImputeRow& row, int attribute, bool observed) {
        for (int c = row.start(attribute); c < row.end(attribute); ++c, n_narrow_ += observed) {
            scratch_.output_row[n_narrow_] = row.output_row(c);
            scratch_.output_bias[n_narrow_] = model_.output_bias[c] - row.x[c];
            scratch_.output_inverse[n_narrow_] = static_cast<float>(batch_.inverse_scale[c]);
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
            const double y = (static_cast<double>(row.x[c]) - model_.output_bias[c]) * batch_.inverse_scale[c];
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
