// Standard error of a row's imputed values by batch means, to stop sampling once it is small enough.
//
// Samples come in segments b with weight w_b and weighted sum s_b of each unobserved output; with w = sum w_b and
// y = sum s_b / w (the imputed value) the ratio estimator's variance is
//   B / (B - 1) * sum_b (s_b - y w_b)^2 / w^2.
// Few segments estimate it badly, so the error is widened as Student's t is: by its quantile at the normal
// distribution's one sigma, which is 1 + 1 / (2 n) + 1 / (3 n^2) to a hundredth for n = B - 1 degrees of freedom.
// Where a sample or two carry all of the weight, segments agree because they hold nothing else: such rows go on.
// Errors count in units of the value's predicted spread. Its variance is that of the column given z (the learned scale;
// 1 for a probability), and that of the output among samples: the variance above times the effective sample size.
#pragma once

#include <algorithm>
#include <cmath>

#include "cpu/weighted_sums.h"

namespace vsae {
namespace VSAE_ISA {

inline constexpr double kLeastEffective = 6;  // samples; LEAST_EFFECTIVE in vsae_fast/ops/stopping.py

class SamplingError {
   public:
    SamplingError(const ImportanceImputeModel& model, const ImportanceImputeBatch& batch, const ImputeScratch& scratch)
        : model_(model), batch_(batch), scratch_(scratch) {}

    void prepare() {
        n_segments_ = 0;
        weight_square_ = 0;
        reference_ = kLowest;
        for (double& weight : weight_before_) weight = 0;
    }

    // Once a block; returns the largest error of the row's values.
    double end_look(const ImputeRow& row, const WeightedSums& sums) {
        const bool first = n_segments_ == 0;  // then the arrays hold nothing of this row
        const double shift = first ? 0 : std::exp(static_cast<double>(reference_) - sums.reference());
        reference_ = sums.reference();
        double own[kSegmentsPerBlock];
        weight_square_ *= shift * shift;
        for (int b = 0; b < kSegmentsPerBlock; ++b) {
            const double weight = sums.weight(b);
            own[b] = weight - shift * weight_before_[b];
            weight_before_[b] = weight;
            weight_square_ += own[b] * own[b];
        }
        n_segments_ += kSegmentsPerBlock;

        const double weight = sums.total_weight();
        double worst = 0;
        bool complete = true;
        sums.visit_unobserved(row, [&](int c, const double* total) {
            complete = false;
            double* before = scratch_.before + static_cast<long>(c) * kSegmentsPerBlock;
            double square = first ? 0 : shift * shift * scratch_.square[c];
            double cross = first ? 0 : shift * shift * scratch_.cross[c], y = 0;
            for (int b = 0; b < kSegmentsPerBlock; ++b) {
                const double sum = first ? total[b] : total[b] - shift * before[b];
                before[b] = total[b];
                square += sum * sum;
                cross += sum * own[b];
                y += total[b] / weight;
            }
            scratch_.square[c] = square;
            scratch_.cross[c] = cross;
            const double squares = square - 2 * y * cross + y * y * weight_square_;
            const double inverse = batch_.inverse_scale[c];
            worst = std::max(worst, squares * inverse * inverse);
        });
        if (complete) return 0;
        const double effective_size = sums.effective_size();
        if (effective_size < kLeastEffective) return HUGE_VAL;
        const double freedom = n_segments_ - 1.0;
        const double widened = 1 + 0.5 / freedom + 1 / (3 * freedom * freedom);
        const double variance = worst * n_segments_ / freedom / (weight * weight);
        // The samples' spread is no more than the whole.
        return std::fmin(1 / std::sqrt(effective_size),
                         widened * std::sqrt(variance / (1 + variance * effective_size)));
    }

    // What WeightedSums::visit_unobserved gave at the last look.
    template <class Visit>
    void visit_last(const ImputeRow& row, Visit visit) const {
        for (int a = 0; a < model_.n_attributes; ++a)
            for (int c = row.start(a); c < row.end(a) && !row.observed(a); ++c)
                visit(c, scratch_.before + static_cast<long>(c) * kSegmentsPerBlock);
    }

   private:
    const ImportanceImputeModel& model_;
    const ImportanceImputeBatch& batch_;
    const ImputeScratch& scratch_;
    int n_segments_ = 0;
    float reference_ = 0;
    double weight_before_[kSegmentsPerBlock] = {};
    double weight_square_ = 0;
};

}  // namespace VSAE_ISA
}  // namespace vsae
