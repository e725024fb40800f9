// log p(x_o | z) of observed categorical attributes and the weighted class probabilities of the others, over a block of
// samples. One product gives the logits of all categories. Exponentials are taken relative to the largest logit, so
// that an attribute's sum lies between 1 and its width and one log serves the product of many sums. The first kUsed
// vectors of a block are computed.
#pragma once

#include "cpu/class_logits.h"
#include "cpu/dense.h"
#include "cpu/impute_row.h"
#include "cpu/impute_scratch.h"
#include "cpu/weighted_sums.h"

namespace vsae {
namespace VSAE_ISA {

inline constexpr float kLargestProduct = 1e30f;  // of sums, before their log is taken

class CategoricalLikelihood {
   public:
    CategoricalLikelihood(const ImportanceImputeModel& model, const ImputeScratch& scratch)
        : model_(model), scratch_(scratch) {}

    template <int kUsed = kVectors>
    void compute_logits(const float* hidden) const {
        if (model_.logits.n_out) dense<kUsed>(model_.logits, model_.logits.bias, hidden, scratch_.logits, 0.0f);
    }

    template <int kUsed>
    void score(const ImputeRow& row, float weight, Sum* log_weight) const {
        if (!model_.logits.n_out) return;
        Vec product[kUsed], total[kUsed] = {};
        for (int v = 0; v < kUsed; ++v) product[v] = splat(1.0f);
        float largest = 1;
        for (int a = 0; a < model_.n_attributes; ++a) {
            if (row.numerical(a) || !row.observed(a)) continue;
            if (largest * static_cast<float>(row.width(a)) > kLargestProduct) {
                for (int v = 0; v < kUsed; ++v) {
                    log_weight[v].add(weight * (total[v] - log(product[v])));
                    total[v] = Vec{};
                    product[v] = splat(1.0f);
                }
                largest = 1;
            }
            largest *= static_cast<float>(row.width(a));
            const float* logits = of(a);
            const float* seen = logits + static_cast<long>(observed_level(row, a)) * kBlock;
            for (int v = 0; v < kUsed; ++v) {
                const Vec top = largest_logit(logits + v * kLanes, row.width(a));
                Vec sum{};
                for (int j = 0; j < row.width(a); ++j)
                    sum += exp_negative(load(logits + j * kBlock + v * kLanes) - top);
                total[v] += load(seen + v * kLanes) - top;
                product[v] *= sum;
            }
        }
        for (int v = 0; v < kUsed; ++v) log_weight[v].add(weight * (total[v] - log(product[v])));
    }

    // Adds to the sums of weighted_sums.h; replaces the logits of unobserved attributes.
    template <int kUsed>
    void accumulate(const ImputeRow& row, const Vec* weight) const {
        if (!model_.logits.n_out) return;
        for (int a = 0; a < model_.n_attributes; ++a) {
            if (row.numerical(a) || row.observed(a)) continue;
            float* logits = of(a);
            Vec share[kUsed];
            for (int v = 0; v < kUsed; ++v) share[v] = weight[v] / exponentiate(logits + v * kLanes, row.width(a));
            float* sums = scratch_.class_sum + static_cast<long>(model_.first_logit[a]) * kSumLanes;
            for (int j = 0; j < row.width(a); ++j)
                WeightedSums::add_block<kUsed>(share, logits + static_cast<long>(j) * kBlock, sums + j * kSumLanes);
        }
    }

   private:
    const ImportanceImputeModel& model_;
    const ImputeScratch& scratch_;

    float* of(int attribute) const {
        return scratch_.logits + static_cast<long>(model_.first_logit[attribute]) * kBlock;
    }

    static int observed_level(const ImputeRow& row, int attribute) {
        const float* x = row.x + row.start(attribute);
        int level = 0;
        for (int j = 1; j < row.width(attribute); ++j)
            if (x[j] > x[level]) level = j;
        return level;
    }
};

}  // namespace VSAE_ISA
}  // namespace vsae
