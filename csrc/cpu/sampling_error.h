// Standard error of a row's imputed values by batch means, to stop sampling once it is small enough.
//
// Samples come in segments b with weight w_b and weighted sum s_b of each unobserved output; with w = sum w_b and
// y = sum s_b / w (the imputed value) the ratio estimator's variance is
//   B / (B - 1) * sum_b (s_b - y w_b)^2 / w^2.
// Few segments estimate it badly, so the error is widened as Student's t is: by its quantile at the normal
// distribution's one sigma, which is 1 + 1 / (2 n) + 1 / (3 n^2) to a hundredth for n = B - 1 degrees of freedom.
// Errors count in units of the value's predicted spread. Its variance is that of the column given z (the learned scale;
// 1 for a probability), and that of the output among samples: the variance above times the effective sample size.
#pragma once

#include <cmath>

#include "core/impute_scratch.h"
#include "cpu/impute_row.h"

namespace vsae {
namespace VSAE_ISA {

inline constexpr int kSegment = 48;  // samples of each proposal; whole blocks of every instruction set

class SamplingError {
   public:
    SamplingError(const ImportanceImputeModel& model, const ImputeScratch& scratch)
        : model_(model), scratch_(scratch) {}

    void prepare(float reference) {
        n_segments_ = 0;
        weight_before_ = weight_square_ = 0;
        reference_ = reference;
        for (int c = 0; c < model_.n_columns; ++c) scratch_.before[c] = scratch_.square[c] = scratch_.cross[c] = 0;
    }

    // `mean_hidden` is the unnormalised weighted sum of the last hidden vector so far, `classes(logit)` that of a
    // category's probability; both, like `weight`, relative to exp(reference). Returns the largest relative error.
    template <class Classes>
    double end_segment(const ImputeRow& row, float reference, double weight, double effective_size,
                       const double* hidden, Classes classes) {
        const double shift = std::exp(static_cast<double>(reference_) - reference);
        reference_ = reference;
        weight_before_ *= shift;
        weight_square_ *= shift * shift;
        const double own = weight - weight_before_;
        weight_before_ = weight;
        weight_square_ += own * own;
        ++n_segments_;

        double worst = 0;
        for (int a = 0; a < model_.n_attributes; ++a) {
            if (row.observed(a)) continue;
            if (row.numerical(a))
                linear_outputs(model_, row.start(a), row.end(a), hidden, weight, scratch_.total);
            else
                for (int c = row.start(a); c < row.end(a); ++c)
                    scratch_.total[c] = classes(model_.first_logit[a] + c - row.start(a));
            for (int c = row.start(a); c < row.end(a); ++c) {
                const double sum = scratch_.total[c] - shift * scratch_.before[c];
                scratch_.before[c] = scratch_.total[c];
                scratch_.square[c] = shift * shift * scratch_.square[c] + sum * sum;
                scratch_.cross[c] = shift * shift * scratch_.cross[c] + sum * own;
                const double y = scratch_.total[c] / weight;
                double squares = scratch_.square[c] - 2 * y * scratch_.cross[c] + y * y * weight_square_;
                if (row.numerical(a)) squares *= std::exp(-2.0 * model_.log_scale[c]);
                worst = squares > worst ? squares : worst;
            }
        }
        // The samples' spread is no more than the whole, so this holds from the first segment on.
        const double from_size = 1 / std::sqrt(effective_size);
        const double freedom = n_segments_ - 1.0;
        if (freedom < 1) return from_size;
        const double widened = 1 + 0.5 / freedom + 1 / (3 * freedom * freedom);
        const double variance = worst * n_segments_ / freedom / (weight * weight);
        return std::fmin(from_size, widened * std::sqrt(variance / (1 + variance * effective_size)));
    }

   private:
    const ImportanceImputeModel& model_;
    const ImputeScratch& scratch_;
    int n_segments_ = 0;
    float reference_ = 0;
    double weight_before_ = 0;
    double weight_square_ = 0;
};

}  // namespace VSAE_ISA
}  // namespace vsae
