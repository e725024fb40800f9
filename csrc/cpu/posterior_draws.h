// Draws of x_u by sampling-importance-resampling (Rubin 1987): a sample with probability proportional to its weight,
// then x_u from p(x_u | z). Random numbers are named by (seed, row id, draw): word pairs of Philox counter 0 choose the
// sample, counter 1 + column / 2 the value of a column.
#pragma once

#include <algorithm>
#include <cmath>

#include "core/philox.h"
#include "cpu/categorical_likelihood.h"
#include "cpu/impute_scratch.h"
#include "cpu/normal_quantile.h"
#include "cpu/sample_decoder.h"

namespace vsae {
namespace VSAE_ISA {

class PosteriorDraws {
   public:
    PosteriorDraws(const ImportanceImputeModel& model, const ImportanceImputeBatch& batch, const ImputeScratch& scratch,
                   const SampleDecoder& decoder, const CategoricalLikelihood& categorical)
        : model_(model), batch_(batch), scratch_(scratch), decoder_(decoder), categorical_(categorical) {}

    // Needs scratch.log_weight, -inf where nothing was sampled. `first_bias(proposal)` is the first data layer's.
    template <class FirstBias>
    void draw(const ImputeRow& row, long number, float top, FirstBias first_bias) {
        const int per_proposal = batch_.n_samples / batch_.n_proposals;
        double total = 0;
        for (int k = 0; k < batch_.n_samples; ++k) {
            const long proposal = static_cast<long>(k / per_proposal) * batch_.n_blocks * kBlock;
            const long place = sample_place(k % per_proposal, per_proposal, kBlockLanes);
            const float log_weight = scratch_.log_weight[proposal + place];
            total += std::exp(static_cast<double>(log_weight) - top);
            scratch_.cumulative[k] = total;
        }
        // Lanes of one block share the context of their proposal: draws are decoded proposal by proposal.
        for (int p = 0; p < batch_.n_proposals; ++p) {
            int chosen[kBlock], draws[kBlock], n = 0;
            for (int j = 0; j < batch_.n_draws; ++j) {
                const int k = choose(number, j, total);
                if (k / per_proposal == p) {
                    chosen[n] = k % per_proposal;
                    draws[n++] = j;
                }
                if (n == kBlock || (n && j + 1 == batch_.n_draws)) {
                    decode_and_sample(row, number, p, chosen, draws, n, first_bias(p));
                    n = 0;
                }
            }
        }
    }

   private:
    const ImportanceImputeModel& model_;
    const ImportanceImputeBatch& batch_;
    const ImputeScratch& scratch_;
    const SampleDecoder& decoder_;
    const CategoricalLikelihood& categorical_;

    double uniform(long row, int draw, int index) const {
        const PhiloxWords words = philox(batch_.seed, static_cast<unsigned long long>(batch_.row_id[row]),
                                         static_cast<unsigned>(draw), static_cast<unsigned>(index / 2));
        return index % 2 ? open_uniform(words.word[2], words.word[3]) : open_uniform(words.word[0], words.word[1]);
    }

    int choose(long row, int draw, double total) const {
        const double* begin = scratch_.cumulative;
        const double* end = begin + batch_.n_samples;
        const double* found = std::upper_bound(begin, end, total * uniform(row, draw, 0));
        return static_cast<int>(std::min(found, end - 1) - begin);
    }

    void decode_and_sample(const ImputeRow& row, long number, int proposal, const int* chosen, const int* draws, int n,
                           const float* first_bias) const {
        const int per_proposal = batch_.n_samples / batch_.n_proposals;
        const long latents = (number * batch_.n_proposals + proposal) * model_.n_latent;
        const float* mean = batch_.mean + latents;
        const float* scale = batch_.scale + latents;
        for (int l = 0; l < model_.n_latent; ++l)
            for (int lane = 0; lane < kBlock; ++lane) {
                const long place = sample_place(chosen[lane < n ? lane : 0], per_proposal, kBlockLanes);
                const long block = static_cast<long>(proposal) * batch_.n_blocks + place / kBlock;
                const float e = batch_.noise[(block * model_.n_latent + l) * kBlock + place % kBlock];
                scratch_.input[static_cast<long>(l) * kBlock + lane] = mean[l] + scale[l] * e;
            }
        Sum unused[kVectors];
        decoder_.score_mask(row, decoder_.mask_logits(), unused);
        const float* hidden = decoder_.decode(first_bias);
        categorical_.compute_logits(hidden);
        for (int lane = 0; lane < n; ++lane) {
            float* x = batch_.draws + (number * batch_.n_draws + draws[lane]) * model_.n_columns;
            for (int a = 0; a < model_.n_attributes; ++a) {
                if (row.observed(a))
                    std::copy(row.x + row.start(a), row.x + row.end(a), x + row.start(a));
                else if (row.numerical(a))
                    sample_numbers(row, number, a, hidden, lane, draws[lane], x);
                else
                    sample_level(row, number, a, lane, draws[lane], x);
            }
        }
    }

    void sample_numbers(const ImputeRow& row, long number, int attribute, const float* hidden, int lane, int draw,
                        float* x) const {
        for (int c = row.start(attribute); c < row.end(attribute); ++c) {
            const float* weight = row.output_row(c);
            double sum = model_.output_bias[c];
            for (int j = 0; j < model_.n_hidden; ++j)
                sum += static_cast<double>(weight[j]) * hidden[static_cast<long>(j) * kBlock + lane];
            const double scale = std::exp(static_cast<double>(model_.log_scale[c]));
            x[c] = static_cast<float>(sum + scale * normal_quantile(uniform(number, draw, 2 + c)));
        }
    }

    void sample_level(const ImputeRow& row, long number, int attribute, int lane, int draw, float* x) const {
        const float* logits = scratch_.logits + static_cast<long>(model_.first_logit[attribute]) * kBlock + lane;
        const int width = row.width(attribute);
        double top = logits[0], total = 0;
        for (int j = 1; j < width; ++j) top = std::max(top, static_cast<double>(logits[static_cast<long>(j) * kBlock]));
        for (int j = 0; j < width; ++j) total += std::exp(logits[static_cast<long>(j) * kBlock] - top);
        const double target = total * uniform(number, draw, 2 + row.start(attribute));
        int level = 0;
        for (double sum = 0; level < width - 1; ++level) {
            sum += std::exp(logits[static_cast<long>(level) * kBlock] - top);
            if (sum > target) break;
        }
        for (int j = 0; j < width; ++j) x[row.start(attribute) + j] = j == level ? 1.0f : 0.0f;
    }
};

}  // namespace VSAE_ISA
}  // namespace vsae
