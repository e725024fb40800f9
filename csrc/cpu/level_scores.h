// log p of categorical attributes and its gradient with respect to their logits, a sample in every lane: attributes
// have a few levels each, of which sums along a row would leave most lanes empty.
#pragma once

#include <algorithm>

#include "core/importance_impute.h"
#include "core/training_step.h"
#include "cpu/simd.h"
#include "cpu/transpose.h"

namespace vsae {
namespace VSAE_ISA {

// Columns first..last-1, whole lines; none where there are none of a kind.
struct ColumnRange {
    int first, last;

    ColumnRange(const LogWeights& w, int kind) : first(w.n_columns), last(0) {
        for (int a = 0; a < w.n_attributes; ++a) {
            if (w.attribute_kind[a] != kind) continue;
            first = std::min(first, w.attribute_start[a] / kLine * kLine);
            last = whole_lines(w.attribute_start[a + 1]);
        }
        if (last == 0) first = 0;
    }

    bool empty() const { return first == last; }
    long size() const { return last - first; }
};

class LevelScores {
   public:
    explicit LevelScores(const LogWeights& w)
        : w_(w),
          range_(w, kCategorical),
          logits_(w.scratch),
          target_(logits_ + range_.size() * kLanes),
          weight_(target_ + range_.size() * kLanes) {}

    bool empty() const { return range_.empty(); }

    // Log-weights of samples first..last-1 as far as levels go, and their gradients.
    void score(long first, long last) const {
        for (long sample = first; sample < last; sample += kLanes) score_lanes(sample, last);
    }

   private:
    const LogWeights& w_;
    ColumnRange range_;
    float *logits_, *target_;  // [columns of the range, lanes]; the former are replaced by their gradients
    float* weight_;            // [M, lanes]

    void score_lanes(long first, long last) const {
        const float *outputs[kLanes], *targets[kLanes], *weights[kLanes];
        float* gradients[kLanes];
        for (int lane = 0; lane < kLanes; ++lane) {  // lanes past the last sample repeat it
            const long sample = std::min(first + lane, last - 1), row = sample / w_.n_samples;
            outputs[lane] = w_.output + sample * w_.column_stride;
            gradients[lane] = w_.output_gradient + sample * w_.column_stride;
            targets[lane] = w_.target + row * w_.column_stride;
            weights[lane] = w_.weight + row * w_.attribute_stride;
        }
        columns_of_lanes(outputs, range_.first, range_.last, logits_);
        columns_of_lanes(targets, range_.first, range_.last, target_);
        columns_of_lanes(weights, 0, whole_lines(w_.n_attributes), weight_);
        Vec total{};
        for (int a = 0; a < w_.n_attributes; ++a)
            if (w_.attribute_kind[a] == kCategorical) total += score_attribute(a);
        rows_of_lanes(logits_, range_.first, range_.last, gradients);
        for (int lane = 0; lane < kLanes && first + lane < last; ++lane) w_.log_weight[first + lane] = total[lane];
    }

    Vec score_attribute(int attribute) const {
        const int begin = w_.attribute_start[attribute];
        const long at = static_cast<long>(begin - range_.first) * kLanes;
        const long size = static_cast<long>(w_.attribute_start[attribute + 1] - begin) * kLanes;
        float* logit = logits_ + at;
        const float* target = target_ + at;
        Vec top = load(logit);
        for (long j = kLanes; j < size; j += kLanes) top = max(top, load(logit + j));
        Vec sum{}, mass{}, score{};
        for (long j = 0; j < size; j += kLanes) {
            const Vec below = load(logit + j) - top, share = exp(below), expected = load(target + j);
            store(logit + j, share);
            sum += share;
            mass += expected;
            score += expected * below;
        }
        const Vec weight = load(weight_ + static_cast<long>(attribute) * kLanes), of_shares = weight * mass / sum;
        for (long j = 0; j < size; j += kLanes)
            store(logit + j, weight * load(target + j) - of_shares * load(logit + j));
        return weight * (score - mass * log(sum));
    }
};

}  // namespace VSAE_ISA
}  // namespace vsae
