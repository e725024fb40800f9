// importance_impute for one instruction set: rows outside, blocks of samples inside, samples in lanes.
//
// What keeps a sample cheap (all exact, see docs/kernels.md): only what the weight needs is computed per sample.
// Unobserved numerical outputs are linear in the last hidden vector, so its weighted mean is accumulated and multiplied
// by the output layer once a row. Weights are kept relative to a reference log-weight that moves only when a block
// exceeds it by kSlack, so the accumulators are rescaled a few times a row. Every row is computed alone and in one
// order: results do not depend on threads or on how rows are cut into calls.
#pragma once

#include <cmath>

#include "core/impute_scratch.h"
#include "cpu/categorical_likelihood.h"
#include "cpu/dense.h"
#include "cpu/impute_row.h"
#include "cpu/numerical_likelihood.h"
#include "cpu/posterior_draws.h"
#include "cpu/sample_decoder.h"
#include "cpu/sampling_error.h"

namespace vsae {
namespace VSAE_ISA {

inline constexpr float kSlack = 8.0f;
inline constexpr float kLowest = -1e38f;   // stands in for a log-weight that is not finite
inline constexpr int kLatentsPerSum = 16;  // terms summed plainly before they join the compensated log-weight

class RowImputer {
   public:
    RowImputer(const ImportanceImputeModel& model, const ImportanceImputeBatch& batch, const ImputeScratch& scratch)
        : model_(model),
          batch_(batch),
          scratch_(scratch),
          decoder_(model, scratch),
          numerical_(model, scratch),
          categorical_(model, scratch),
          error_(model, scratch),
          draws_(model, batch, scratch, decoder_, categorical_) {}

    void run(long number) {
        row_ = {&model_, batch_.x + number * model_.n_columns, batch_.mask + number * model_.n_attributes};
        number_ = number;
        prepare();
        const int per_proposal = batch_.n_samples / batch_.n_proposals;
        int spent = 0;  // of each proposal
        for (int block = 0; block < batch_.n_blocks; ++block) {
            for (int proposal = 0; proposal < batch_.n_proposals; ++proposal) sample_block(proposal, block);
            spent = (block + 1) * kBlock < per_proposal ? (block + 1) * kBlock : per_proposal;
            if (batch_.tolerance > 0 && spent % kSegment == 0 && standard_error() <= batch_.tolerance) break;
        }
        finish(spent * batch_.n_proposals);
    }

   private:
    const ImportanceImputeModel& model_;
    const ImportanceImputeBatch& batch_;
    const ImputeScratch& scratch_;
    const SampleDecoder decoder_;
    NumericalLikelihood numerical_;
    const CategoricalLikelihood categorical_;
    SamplingError error_;
    PosteriorDraws draws_;
    ImputeRow row_{};
    long number_ = 0;
    float reference_ = 0;
    double row_constant_ = 0;  // the part of log w that does not depend on the sample
    Vec weight_sum_{};
    Vec square_sum_{};

    const float* latents(const float* values, int proposal) const {
        return values + (number_ * batch_.n_proposals + proposal) * model_.n_latent;
    }

    const float* first_bias(int proposal) const {
        if (!batch_.context) return model_.data_layers[0].bias;
        return scratch_.context_bias + static_cast<long>(proposal) * padded(model_.data_layers[0].n_out);
    }

    // ---- once a row -------------------------------------------------------------------------------------------------

    void prepare() {
        row_constant_ = numerical_.prepare(row_) * model_.visible_weight;
        double first = 0;
        for (int p = 0; p < batch_.n_proposals; ++p) {
            const float* mean = latents(batch_.mean, p);
            const float* scale = latents(batch_.scale, p);
            double constant = 0;
            for (int l = 0; l < model_.n_latent; ++l)
                constant += std::log(static_cast<double>(scale[l])) - 0.5 * static_cast<double>(mean[l]) * mean[l];
            if (p == 0) first = constant;
            scratch_.proposal_offset[p] = static_cast<float>(constant - first);
            if (batch_.context) add_context(p);
        }
        row_constant_ += first;

        reference_ = kLowest;
        weight_sum_ = Vec{};
        square_sum_ = Vec{};
        for (int j = 0; j < model_.n_hidden * kLanes; ++j) scratch_.hidden_sum[j] = 0.0f;
        for (int j = 0; j < model_.logits.n_out * kLanes; ++j) scratch_.class_sum[j] = 0.0f;
        if (batch_.tolerance > 0) error_.prepare(reference_);
        if (batch_.n_draws)
            for (long i = 0; i < static_cast<long>(batch_.n_proposals) * batch_.n_blocks * kBlock; ++i)
                scratch_.log_weight[i] = -HUGE_VALF;
    }

    void add_context(int proposal) {
        const int n = model_.data_layers[0].n_out;
        const float* bias = model_.data_layers[0].bias;
        const float* context = batch_.context + (number_ * batch_.n_proposals + proposal) * n;
        float* to = scratch_.context_bias + static_cast<long>(proposal) * padded(n);
        for (int j = 0; j < padded(n); ++j) to[j] = bias[j] + (j < n ? context[j] : 0.0f);
    }

    // ---- once a block of samples ------------------------------------------------------------------------------------

    void sample_block(int proposal, int block) {
        const long packed = static_cast<long>(proposal) * batch_.n_blocks + block;
        Sum log_weight[kVectors];
        for (int v = 0; v < kVectors; ++v) log_weight[v].total = splat(scratch_.proposal_offset[proposal]);
        draw_latents(proposal, packed, log_weight);
        decoder_.score_mask(row_, log_weight);
        const float* hidden = decoder_.decode(first_bias(proposal));
        numerical_.score(row_, hidden, model_.visible_weight, log_weight);
        categorical_.compute_logits(hidden);
        categorical_.score(row_, model_.visible_weight, log_weight);

        const float* half_square = batch_.half_square + packed * kBlock;
        Vec top = splat(kLowest);
        for (int v = 0; v < kVectors; ++v) {
            // -inf marks the samples past the last, after the floor that keeps every real sample finite.
            const Vec past_end = load(half_square + v * kLanes);
            log_weight[v].total = max(log_weight[v].total, splat(kLowest));
            log_weight[v].total = past_end < 0.0f ? past_end : log_weight[v].total;
            top = max(log_weight[v].total, top);
        }
        raise_reference(horizontal_max(top));

        Vec weight[kVectors];
        for (int v = 0; v < kVectors; ++v) {
            weight[v] = exp(log_weight[v].relative_to(reference_));
            weight_sum_ += weight[v];
            square_sum_ += weight[v] * weight[v];
            if (batch_.n_draws) store(scratch_.log_weight + packed * kBlock + v * kLanes, log_weight[v].total);
        }
        accumulate_hidden(hidden, weight);
        categorical_.accumulate(row_, weight);
    }

    // z = mean + scale * noise; the log-weight starts with (e^2 - z^2) / 2 = e (a e + b) + c for each latent, where
    // a = (1 - scale^2) / 2 and b = -mean scale; the constants c stand in row_constant_ and proposal_offset.
    void draw_latents(int proposal, long packed, Sum* log_weight) const {
        const float* mean = latents(batch_.mean, proposal);
        const float* scale = latents(batch_.scale, proposal);
        const float* noise = batch_.noise + packed * model_.n_latent * kBlock;
        for (int begin = 0; begin < model_.n_latent; begin += kLatentsPerSum) {
            const int end = begin + kLatentsPerSum < model_.n_latent ? begin + kLatentsPerSum : model_.n_latent;
            Vec sum[kVectors] = {};
            for (int l = begin; l < end; ++l) {
                const float square = 0.5f - 0.5f * scale[l] * scale[l];
                const float linear = -mean[l] * scale[l];
                for (int v = 0; v < kVectors; ++v) {
                    const Vec e = load(noise + l * kBlock + v * kLanes);
                    store(scratch_.input + l * kBlock + v * kLanes, mean[l] + scale[l] * e);
                    sum[v] += e * (square * e + linear);
                }
            }
            for (int v = 0; v < kVectors; ++v) log_weight[v].add(sum[v]);
        }
    }

    void raise_reference(float top) {
        if (top <= reference_ + kSlack) return;
        const Vec factor = exp(splat(reference_ - top));
        reference_ = top;
        weight_sum_ *= factor;
        square_sum_ *= factor * factor;
        for (int j = 0; j < model_.n_hidden; ++j)
            store(scratch_.hidden_sum + j * kLanes, factor * load(scratch_.hidden_sum + j * kLanes));
        for (int j = 0; j < model_.logits.n_out; ++j)
            store(scratch_.class_sum + j * kLanes, factor * load(scratch_.class_sum + j * kLanes));
    }

    void accumulate_hidden(const float* hidden, const Vec* weight) const {
        for (int j = 0; j < model_.n_hidden; ++j) {
            Vec sum = load(scratch_.hidden_sum + j * kLanes);
            for (int v = 0; v < kVectors; ++v) sum += weight[v] * load(hidden + j * kBlock + v * kLanes);
            store(scratch_.hidden_sum + j * kLanes, sum);
        }
    }

    // ---- from time to time, and at the end --------------------------------------------------------------------------

    double class_sum(int logit) const {
        return horizontal_sum(load(scratch_.class_sum + static_cast<long>(logit) * kLanes));
    }

    double standard_error() {
        double* hidden = scratch_.projected;
        for (int j = 0; j < model_.n_hidden; ++j) hidden[j] = horizontal_sum(load(scratch_.hidden_sum + j * kLanes));
        const double total = horizontal_sum(weight_sum_);
        return error_.end_segment(row_, reference_, total, total * total / horizontal_sum(square_sum_), hidden,
                                  [&](int logit) { return class_sum(logit); });
    }

    void finish(int spent) {
        const double total = horizontal_sum(weight_sum_);
        batch_.log_evidence[number_] =
            reference_ + std::log(total) - std::log(static_cast<double>(spent)) + row_constant_;
        batch_.effective_size[number_] = total * total / horizontal_sum(square_sum_);
        batch_.n_spent[number_] = spent;

        double* hidden = scratch_.projected;
        for (int j = 0; j < model_.n_hidden; ++j)
            hidden[j] = horizontal_sum(load(scratch_.hidden_sum + j * kLanes)) / total;
        float* imputed = batch_.imputed + number_ * model_.n_columns;
        for (int a = 0; a < model_.n_attributes; ++a) {
            if (row_.observed(a))
                std::copy(row_.x + row_.start(a), row_.x + row_.end(a), imputed + row_.start(a));
            else if (row_.numerical(a))
                linear_outputs(model_, row_.start(a), row_.end(a), hidden, 1.0, imputed);
            else
                for (int j = 0; j < row_.width(a); ++j)
                    imputed[row_.start(a) + j] = static_cast<float>(class_sum(model_.first_logit[a] + j) / total);
        }
        if (batch_.n_draws) draws_.draw(row_, number_, reference_, [&](int proposal) { return first_bias(proposal); });
    }
};

}  // namespace VSAE_ISA
}  // namespace vsae
