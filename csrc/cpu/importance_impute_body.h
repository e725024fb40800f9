// importance_impute for one instruction set: rows outside, blocks of samples inside, samples in lanes.
//
// What keeps a sample cheap (all exact, see docs/kernels.md): only what the weight needs is computed per sample, sums
// stand in for the rest (weighted_sums.h), and mirrored noise halves the first layers (mirrored_latents.h). Every row
// is computed alone and in one order: results do not depend on threads or on how rows are cut into calls.
#pragma once

#include <algorithm>
#include <cmath>

#include "cpu/categorical_likelihood.h"
#include "cpu/dense.h"
#include "cpu/impute_row.h"
#include "cpu/impute_scratch.h"
#include "cpu/mirrored_latents.h"
#include "cpu/numerical_likelihood.h"
#include "cpu/posterior_draws.h"
#include "cpu/sample_decoder.h"
#include "cpu/sampling_error.h"
#include "cpu/weighted_sums.h"

namespace vsae {
namespace VSAE_ISA {

inline constexpr int kScalesPerLog = 8;  // the product of so many floats is a double that is neither 0 nor infinite

class RowImputer {
   public:
    RowImputer(const ImportanceImputeModel& model, const ImportanceImputeBatch& batch, const ImputeScratch& scratch)
        : model_(model),
          batch_(batch),
          scratch_(scratch),
          decoder_(model, scratch),
          mirrored_(model, batch, scratch),
          numerical_(model, batch, scratch),
          categorical_(model, scratch),
          sums_(model, scratch),
          error_(model, batch, scratch),
          draws_(model, batch, scratch, decoder_, categorical_),
          last_vectors_(vectors_of_last_block(batch)) {}

    void run(long number) {
        row_ = {&model_, batch_.x + number * model_.n_columns, batch_.mask + number * model_.n_attributes};
        number_ = number;
        prepare();
        const int per_proposal = batch_.n_samples / batch_.n_proposals;
        int spent = per_proposal;  // of each proposal
        bool stopped = false;
        for (int block = 0; block < batch_.n_blocks; ++block) {
            for (int proposal = 0; proposal < batch_.n_proposals; ++proposal) sample_block(proposal, block);
            const int looked = (block + 1) * kBlock;
            if (batch_.tolerance > 0 && looked <= per_proposal && error_.end_look(row_, sums_) <= batch_.tolerance) {
                spent = looked;
                stopped = true;
                break;
            }
        }
        finish(spent * batch_.n_proposals, stopped);
    }

   private:
    const ImportanceImputeModel& model_;
    const ImportanceImputeBatch& batch_;
    const ImputeScratch& scratch_;
    const SampleDecoder decoder_;
    MirroredLatents mirrored_;
    NumericalLikelihood numerical_;
    const CategoricalLikelihood categorical_;
    WeightedSums sums_;
    SamplingError error_;
    PosteriorDraws draws_;
    const int last_vectors_;  // that hold samples of the last block
    ImputeRow row_{};
    long number_ = 0;
    double row_constant_ = 0;  // the part of log w that does not depend on the sample

    static int vectors_of_last_block(const ImportanceImputeBatch& batch) {
        const int samples = batch.n_samples / batch.n_proposals - (batch.n_blocks - 1) * kBlock;
        return std::max(1, 2 * half_of_block(samples, kBlockLanes) / kLanes);
    }

    bool by_halves() const { return kHalvesApart && batch_.mirrored; }

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
            for (int begin = 0; begin < model_.n_latent; begin += kScalesPerLog) {
                double product = 1;
                for (int l = begin; l < std::min(begin + kScalesPerLog, model_.n_latent); ++l) {
                    product *= scale[l];
                    constant -= 0.5 * static_cast<double>(mean[l]) * mean[l];
                }
                constant += std::log(product);
            }
            if (p == 0) first = constant;
            scratch_.proposal_offset[p] = static_cast<float>(constant - first);
            if (batch_.context) add_context(p);
        }
        row_constant_ += first;
        if (by_halves()) mirrored_.prepare(latents(batch_.mean, 0), latents(batch_.scale, 0), first_bias(0));

        sums_.clear();
        if (batch_.tolerance > 0) error_.prepare();
        if (batch_.n_draws)
            std::fill_n(scratch_.log_weight, static_cast<long>(batch_.n_proposals) * batch_.n_blocks * kBlock,
                        -HUGE_VALF);
    }

    void add_context(int proposal) {
        const int n = model_.data_layers[0].n_out;
        const float* bias = model_.data_layers[0].bias;
        const float* context = batch_.context + (number_ * batch_.n_proposals + proposal) * n;
        float* to = scratch_.context_bias + static_cast<long>(proposal) * padded(n);
        int j = 0;
        for (; j + kLanes <= n; j += kLanes)
            store_unaligned(to + j, load_unaligned(bias + j) + load_unaligned(context + j));
        for (; j < n; ++j) to[j] = bias[j] + context[j];
        for (; j < padded(n); ++j) to[j] = bias[j];
    }

    // ---- once a block of samples ------------------------------------------------------------------------------------

    void sample_block(int proposal, int block) {
        if (block + 1 < batch_.n_blocks || last_vectors_ == kVectors) return sample_vectors<kVectors>(proposal, block);
        if constexpr (kVectors >= 2)
            if (last_vectors_ == kVectors / 2) return sample_vectors<kVectors / 2>(proposal, block);
        if constexpr (kVectors >= 4) sample_vectors<kVectors / 4>(proposal, block);
    }

    // The first kUsed vectors of a block; there are no samples behind them.
    template <int kUsed>
    void sample_vectors(int proposal, int block) {
        const long packed = static_cast<long>(proposal) * batch_.n_blocks + block;
        Sum log_weight[kUsed];
        for (int v = 0; v < kUsed; ++v) log_weight[v].total = splat(scratch_.proposal_offset[proposal]);
        const float* hidden;
        if constexpr (kUsed < kVectors)
            hidden = decode_each<kUsed>(proposal, packed, log_weight);
        else
            hidden = by_halves() ? decode_halves(block, log_weight) : decode_each<kUsed>(proposal, packed, log_weight);
        numerical_.score<kUsed>(row_, hidden, model_.visible_weight, log_weight);
        categorical_.compute_logits<kUsed>(hidden);
        categorical_.score<kUsed>(row_, model_.visible_weight, log_weight);

        const float* half_square = batch_.half_square + packed * kBlock;
        Vec top = splat(kLowest);
        for (int v = 0; v < kUsed; ++v) {
            // -inf marks the samples past the last, after the floor that keeps every real sample finite.
            const Vec past_end = load(half_square + v * kLanes);
            log_weight[v].total = max(log_weight[v].total, splat(kLowest));
            log_weight[v].total = past_end < 0.0f ? past_end : log_weight[v].total;
            top = max(log_weight[v].total, top);
        }
        sums_.raise_reference(horizontal_max(top));

        Vec weight[kUsed];
        for (int v = 0; v < kUsed; ++v) {
            weight[v] = exp(log_weight[v].relative_to(sums_.reference()));
            if (batch_.n_draws) store(scratch_.log_weight + packed * kBlock + v * kLanes, log_weight[v].total);
        }
        sums_.add<kUsed>(weight, hidden);
        categorical_.accumulate<kUsed>(row_, weight);
    }

    // The last hidden vectors; adds what the latents and the mask give to the log-weights.
    template <int kUsed>
    const float* decode_each(int proposal, long packed, Sum* log_weight) const {
        draw_latents<kUsed>(proposal, packed, log_weight);
        decoder_.score_mask<kUsed>(row_, decoder_.mask_logits<kUsed>(), log_weight);
        return decoder_.decode<kUsed>(first_bias(proposal));
    }

    // The same of a whole block whose second half mirrors its first.
    const float* decode_halves(int block, Sum* log_weight) const {
        mirrored_.begin_block(block, log_weight);
        decoder_.score_mask(row_, decoder_.mask_logits(mirrored_.mask_layer(model_.negative_slope)), log_weight);
        return decoder_.decode(mirrored_.data_layer(model_.negative_slope));
    }

    // z = mean + scale * noise; the log-weight starts with (e^2 - z^2) / 2 = e (a e + b) + c for each latent, where
    // a = (1 - scale^2) / 2 and b = -mean scale; the constants c stand in row_constant_ and proposal_offset.
    template <int kUsed>
    void draw_latents(int proposal, long packed, Sum* log_weight) const {
        const float* mean = latents(batch_.mean, proposal);
        const float* scale = latents(batch_.scale, proposal);
        const float* noise = batch_.noise + packed * model_.n_latent * kBlock;
        for (int begin = 0; begin < model_.n_latent; begin += kLatentsPerSum) {
            const int end = begin + kLatentsPerSum < model_.n_latent ? begin + kLatentsPerSum : model_.n_latent;
            Vec sum[kUsed] = {};
            for (int l = begin; l < end; ++l) {
                const float square = 0.5f - 0.5f * scale[l] * scale[l];
                const float linear = -mean[l] * scale[l];
                for (int v = 0; v < kUsed; ++v) {
                    const Vec e = load(noise + l * kBlock + v * kLanes);
                    store(scratch_.input + l * kBlock + v * kLanes, mean[l] + scale[l] * e);
                    sum[v] += e * (square * e + linear);
                }
            }
            for (int v = 0; v < kUsed; ++v) log_weight[v].add(sum[v]);
        }
    }

    void finish(int spent, bool stopped) {
        const double total = sums_.total_weight();
        batch_.log_evidence[number_] =
            sums_.reference() + std::log(total) - std::log(static_cast<double>(spent)) + row_constant_;
        batch_.effective_size[number_] = sums_.effective_size();
        batch_.n_spent[number_] = spent;

        float* imputed = batch_.imputed + number_ * model_.n_columns;
        std::copy_n(row_.x, model_.n_columns, imputed);  // unobserved columns are all written to below
        const auto impute = [&](int column, const double* of_segment) {
            double sum = 0;
            for (int b = 0; b < kSegmentsPerBlock; ++b) sum += of_segment[b];
            imputed[column] = static_cast<float>(sum / total);
        };
        if (stopped)
            error_.visit_last(row_, impute);
        else
            sums_.visit_unobserved(row_, impute);
        if (batch_.n_draws)
            draws_.draw(row_, number_, sums_.reference(), [&](int proposal) { return first_bias(proposal); });
    }
};

}  // namespace VSAE_ISA
}  // namespace vsae
