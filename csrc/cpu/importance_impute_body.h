// importance_impute for one instruction set: rows outside, blocks of samples inside, samples in lanes.
//
// What keeps a sample cheap (all exact, see docs/kernels.md):
//  * only observed numerical outputs are computed per sample; the unobserved ones are linear in the last hidden vector,
//    so its weighted mean is accumulated and multiplied by the output layer once a row;
//  * 1/scale and the observed value are folded into the output rows: the log-likelihood is -|W'h + b'|^2 / 2;
//  * the logits of an observed category are taken relative to the observed level, so its score is -log sum exp;
//  * the mask likelihood needs one log for up to 64 attributes: sum log(1 + e^-|a|) = log prod(1 + e^-|a|) <= 64 log 2.
// Weights are kept relative to a reference log-weight that moves only when a block exceeds it by kSlack, so the
// accumulators are rescaled a few times a row. Every row is computed alone and in one order: results do not depend on
// threads or on how rows are cut into calls.
#pragma once

#include <cmath>

#include "core/impute_scratch.h"
#include "cpu/dense.h"

namespace vsae {
namespace VSAE_ISA {

inline constexpr float kSlack = 8.0f;
inline constexpr float kLowest = -1e38f;   // stands in for a log-weight that is not finite
inline constexpr float kNoLevel = -1e30f;  // logit of a padding level
inline constexpr int kLatentsPerSum = 16;  // terms summed plainly before they join the compensated log-weight
inline constexpr int kFactorsPerLog = 64;  // (1 + e^-|a|) <= 2, so 2^64 cannot overflow

class RowImputer {
   public:
    RowImputer(const ImportanceImputeModel& model, const ImportanceImputeBatch& batch, const ImputeScratch& scratch)
        : model_(model), batch_(batch), scratch_(scratch) {}

    void run(long row) {
        x_ = batch_.x + row * model_.n_columns;
        mask_ = batch_.mask + row * model_.n_attributes;
        mean_ = batch_.mean + row * model_.n_latent;
        scale_ = batch_.scale + row * model_.n_latent;
        prepare(row);
        for (int block = 0; block < batch_.n_blocks; ++block) sample_block(block);
        finish(row);
    }

   private:
    const ImportanceImputeModel& model_;
    const ImportanceImputeBatch& batch_;
    const ImputeScratch& scratch_;
    const float* x_ = nullptr;
    const float* mask_ = nullptr;
    const float* mean_ = nullptr;
    const float* scale_ = nullptr;
    const float* first_bias_ = nullptr;
    int n_scored_ = 0;  // observed numerical columns
    float reference_ = 0;
    double row_constant_ = 0;  // the part of log w that does not depend on the sample
    Vec weight_sum_{};
    Vec square_sum_{};

    int start(int attribute) const { return model_.attribute_start[attribute]; }
    int width(int attribute) const { return start(attribute + 1) - start(attribute); }
    bool observed(int attribute) const { return mask_[attribute] > 0.5f; }
    const float* output_row(int column) const {
        return model_.output_weight + static_cast<long>(column) * model_.n_hidden;
    }

    // ---- once a row -------------------------------------------------------------------------------------------------

    void prepare(long row) {
        constexpr double kHalfLogTwoPi = 0.91893853320467274178;
        row_constant_ = 0;
        for (int l = 0; l < model_.n_latent; ++l) {
            const double mean = mean_[l];
            row_constant_ += std::log(static_cast<double>(scale_[l])) - 0.5 * mean * mean;
        }

        int out = 0;
        for (int a = 0; a < model_.n_attributes; ++a) {
            if (model_.attribute_kind[a] != kNumerical || !observed(a)) continue;
            for (int c = start(a); c < start(a + 1); ++c, ++out) {
                const float inverse = static_cast<float>(std::exp(-static_cast<double>(model_.log_scale[c])));
                pack_row(scratch_.output_weight, out, model_.n_hidden, output_row(c), nullptr, inverse);
                scratch_.output_bias[out] =
                    static_cast<float>((static_cast<double>(model_.output_bias[c]) - x_[c]) * inverse);
                row_constant_ -= model_.visible_weight * (kHalfLogTwoPi + model_.log_scale[c]);
            }
        }
        n_scored_ = out;
        for (; out < padded(n_scored_); ++out) {
            pack_row(scratch_.output_weight, out, model_.n_hidden, nullptr, nullptr, 0.0f);
            scratch_.output_bias[out] = 0.0f;
        }
        for (int a = 0; a < model_.n_attributes; ++a) {
            if (model_.attribute_kind[a] != kCategorical) continue;
            const int shift = observed(a) ? observed_level(a) : -1;
            for (int j = 0; j < padded(width(a)); ++j, ++out) {
                const int c = start(a) + j;
                const bool level = j < width(a);
                pack_row(scratch_.output_weight, out, model_.n_hidden, level ? output_row(c) : nullptr,
                         level && shift >= 0 ? output_row(shift) : nullptr, 1.0f);
                scratch_.output_bias[out] =
                    level ? model_.output_bias[c] - (shift >= 0 ? model_.output_bias[shift] : 0.0f) : kNoLevel;
            }
        }

        first_bias_ = model_.data_layers[0].bias;
        if (batch_.context) {
            const int n = model_.data_layers[0].n_out;
            const float* context = batch_.context + row * n;
            for (int j = 0; j < padded(n); ++j) scratch_.context_bias[j] = first_bias_[j] + (j < n ? context[j] : 0.0f);
            first_bias_ = scratch_.context_bias;
        }

        reference_ = kLowest;
        weight_sum_ = Vec{};
        square_sum_ = Vec{};
        for (int j = 0; j < model_.n_hidden * kLanes; ++j) scratch_.hidden_sum[j] = 0.0f;
        for (int j = 0; j < model_.n_columns * kLanes; ++j) scratch_.class_sum[j] = 0.0f;
    }

    int observed_level(int attribute) const {
        int level = start(attribute);
        for (int c = level + 1; c < start(attribute + 1); ++c)
            if (x_[c] > x_[level]) level = c;
        return level;
    }

    // ---- once a block of samples ------------------------------------------------------------------------------------

    void sample_block(int block) {
        Sum log_weight[kVectors];
        draw_latents(block, log_weight);
        score_mask(log_weight);
        const float* hidden = decode();
        score_numerical(hidden, log_weight);
        score_categorical(hidden, log_weight);

        const float* half_square = batch_.half_square + static_cast<long>(block) * kBlock;
        Vec top = splat(kLowest);
        for (int v = 0; v < kVectors; ++v) {
            // -inf marks the samples past K, after the floor that keeps every real sample finite.
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
        }
        accumulate_hidden(hidden, weight);
        accumulate_classes(hidden, weight);
    }

    // z = mean + scale * noise; the log-weight starts with (e^2 - z^2) / 2 = e (a e + b) + c for each latent, where
    // a = (1 - scale^2) / 2 and b = -mean scale; the constants c stand in row_constant_.
    void draw_latents(int block, Sum* log_weight) const {
        const float* noise = batch_.noise + static_cast<long>(block) * model_.n_latent * kBlock;
        for (int begin = 0; begin < model_.n_latent; begin += kLatentsPerSum) {
            const int end = begin + kLatentsPerSum < model_.n_latent ? begin + kLatentsPerSum : model_.n_latent;
            Vec sum[kVectors] = {};
            for (int l = begin; l < end; ++l) {
                const float square = 0.5f - 0.5f * scale_[l] * scale_[l];
                const float linear = -mean_[l] * scale_[l];
                for (int v = 0; v < kVectors; ++v) {
                    const Vec e = load(noise + l * kBlock + v * kLanes);
                    store(scratch_.input + l * kBlock + v * kLanes, mean_[l] + scale_[l] * e);
                    sum[v] += e * (square * e + linear);
                }
            }
            for (int v = 0; v < kVectors; ++v) log_weight[v].add(sum[v]);
        }
    }

    // Mask decoder, log p(m | z), and pi(z) behind z in the data decoder's input.
    void score_mask(Sum* log_weight) const {
        const float* in = scratch_.input;
        for (int i = 0; i < model_.n_mask_layers; ++i) {
            float* out = scratch_.hidden[i % 2];
            dense(model_.mask_layers[i], model_.mask_layers[i].bias, in, out, model_.negative_slope);
            in = out;
        }
        float* pi = scratch_.input + static_cast<long>(model_.n_latent) * kBlock;
        Vec product[kVectors], total[kVectors] = {};
        for (int v = 0; v < kVectors; ++v) product[v] = splat(1.0f);
        for (int a = 0; a < model_.n_attributes; ++a) {
            Vec logit[kVectors], tail[kVectors], factor[kVectors], inverse[kVectors];
            for (int v = 0; v < kVectors; ++v) {
                logit[v] = load(in + a * kBlock + v * kLanes);
                tail[v] = exp_negative(-abs(logit[v]));
                factor[v] = 1.0f + tail[v];
                total[v] += min(observed(a) ? logit[v] : -logit[v], Vec{});
                product[v] *= factor[v];
            }
            reciprocals(factor, inverse);  // sigmoid(|logit|)
            for (int v = 0; v < kVectors; ++v)
                store(pi + a * kBlock + v * kLanes, logit[v] < 0.0f ? tail[v] * inverse[v] : inverse[v]);
            if ((a + 1) % kFactorsPerLog == 0)
                for (int v = 0; v < kVectors; ++v) {
                    total[v] -= log(product[v]);
                    product[v] = splat(1.0f);
                }
        }
        for (int v = 0; v < kVectors; ++v) log_weight[v].add(total[v] - log(product[v]));
    }

    // One division for three reciprocals of values between 1 and 2: a division costs as much as ten multiplications.
    static void reciprocals(const Vec* x, Vec* inverse) {
        static_assert(kVectors == 3);
        const Vec pair = x[0] * x[1];
        const Vec all = 1.0f / (pair * x[2]);
        const Vec of_pair = all * x[2];
        inverse[0] = of_pair * x[1];
        inverse[1] = of_pair * x[0];
        inverse[2] = all * pair;
    }

    const float* decode() const {
        const float* in = scratch_.input;
        for (int i = 0; i < model_.n_data_layers; ++i) {
            float* out = scratch_.hidden[i % 2];
            const DenseLayer& layer = model_.data_layers[i];
            dense(layer, i == 0 ? first_bias_ : layer.bias, in, out, model_.negative_slope);
            in = out;
        }
        return in;
    }

    void score_numerical(const float* hidden, Sum* log_weight) const {
        dense_tiles<false>(scratch_.output_weight, scratch_.output_bias, model_.n_hidden, n_scored_, hidden,
                           scratch_.output, 0.0f);
        const float factor = -0.5f * model_.visible_weight;
        for (int v = 0; v < kVectors; ++v) {
            for (int j = 0; j < n_scored_; ++j) {
                const Vec residual = load(scratch_.output + j * kBlock + v * kLanes);
                log_weight[v].add(factor * residual * residual);
            }
        }
    }

    // Calls visit(attribute) for each categorical attribute, its logits in scratch.output.
    template <class Visit>
    void for_each_category(bool want_observed, const float* hidden, Visit visit) const {
        long out = padded(n_scored_);
        for (int a = 0; a < model_.n_attributes; ++a) {
            if (model_.attribute_kind[a] != kCategorical) continue;
            if (observed(a) == want_observed) {
                dense_tiles<false>(scratch_.output_weight + out * model_.n_hidden, scratch_.output_bias + out,
                                   model_.n_hidden, width(a), hidden, scratch_.output, 0.0f);
                visit(a);
            }
            out += padded(width(a));
        }
    }

    // Replaces the logits of one attribute by exp(logit - max) and gives max and sum.
    void exponentials(int attribute, int v, Vec* top, Vec* sum) const {
        float* logits = scratch_.output + v * kLanes;
        Vec m = load(logits);
        for (int j = 1; j < width(attribute); ++j) m = max(m, load(logits + j * kBlock));
        Vec s = Vec{};
        for (int j = 0; j < width(attribute); ++j) {
            const Vec e = exp(load(logits + j * kBlock) - m);
            store(logits + j * kBlock, e);
            s += e;
        }
        *top = m;
        *sum = s;
    }

    void score_categorical(const float* hidden, Sum* log_weight) const {
        for_each_category(true, hidden, [&](int a) {
            for (int v = 0; v < kVectors; ++v) {
                Vec top, sum;
                exponentials(a, v, &top, &sum);
                log_weight[v].add(-model_.visible_weight * (top + log(sum)));
            }
        });
    }

    void raise_reference(float top) {
        if (top <= reference_ + kSlack) return;
        const Vec factor = exp(splat(reference_ - top));
        reference_ = top;
        weight_sum_ *= factor;
        square_sum_ *= factor * factor;
        for (int j = 0; j < model_.n_hidden; ++j)
            store(scratch_.hidden_sum + j * kLanes, factor * load(scratch_.hidden_sum + j * kLanes));
        for (int c = 0; c < model_.n_columns; ++c)
            store(scratch_.class_sum + c * kLanes, factor * load(scratch_.class_sum + c * kLanes));
    }

    void accumulate_hidden(const float* hidden, const Vec* weight) const {
        for (int j = 0; j < model_.n_hidden; ++j) {
            Vec sum = load(scratch_.hidden_sum + j * kLanes);
            for (int v = 0; v < kVectors; ++v) sum += weight[v] * load(hidden + j * kBlock + v * kLanes);
            store(scratch_.hidden_sum + j * kLanes, sum);
        }
    }

    void accumulate_classes(const float* hidden, const Vec* weight) const {
        for_each_category(false, hidden, [&](int a) {
            for (int v = 0; v < kVectors; ++v) {
                Vec top, sum;
                exponentials(a, v, &top, &sum);
                const Vec share = weight[v] / sum;
                for (int j = 0; j < width(a); ++j) {
                    float* acc = scratch_.class_sum + (start(a) + j) * kLanes;
                    store(acc, load(acc) + share * load(scratch_.output + j * kBlock + v * kLanes));
                }
            }
        });
    }

    // ---- once a row, at the end -------------------------------------------------------------------------------------

    void finish(long row) const {
        const double total = horizontal_sum(weight_sum_);
        batch_.log_evidence[row] =
            reference_ + std::log(total) - std::log(static_cast<double>(batch_.n_samples)) + row_constant_;
        batch_.effective_size[row] = total * total / horizontal_sum(square_sum_);

        float* mean_hidden = scratch_.hidden[0];  // free by now
        for (int j = 0; j < model_.n_hidden; ++j)
            mean_hidden[j] = static_cast<float>(horizontal_sum(load(scratch_.hidden_sum + j * kLanes)) / total);

        float* imputed = batch_.imputed + row * model_.n_columns;
        for (int a = 0; a < model_.n_attributes; ++a)
            for (int c = start(a); c < start(a + 1); ++c) {
                if (observed(a)) {
                    imputed[c] = x_[c];
                } else if (model_.attribute_kind[a] == kNumerical) {
                    double sum = model_.output_bias[c];
                    for (int j = 0; j < model_.n_hidden; ++j)
                        sum += static_cast<double>(output_row(c)[j]) * mean_hidden[j];
                    imputed[c] = static_cast<float>(sum);
                } else {
                    imputed[c] = static_cast<float>(horizontal_sum(load(scratch_.class_sum + c * kLanes)) / total);
                }
            }
    }
};

}  // namespace VSAE_ISA
}  // namespace vsae
