// Both decoders over a block of samples, samples in lanes, and the mask's likelihood on the way.
//
// The mask likelihood needs one log for up to 64 attributes: sum log(1 + e^-|a|) = log prod(1 + e^-|a|) <= 64 log 2.
#pragma once

#include "core/impute_scratch.h"
#include "cpu/dense.h"
#include "cpu/impute_row.h"

namespace vsae {
namespace VSAE_ISA {

inline constexpr int kFactorsPerLog = 64;  // (1 + e^-|a|) <= 2, so 2^64 cannot overflow

class SampleDecoder {
   public:
    SampleDecoder(const ImportanceImputeModel& model, const ImputeScratch& scratch)
        : model_(model), scratch_(scratch) {}

    // Reads z from scratch.input, writes pi(z) behind it and adds log p(m | z).
    void score_mask(const ImputeRow& row, Sum* log_weight) const {
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
                total[v] += min(row.observed(a) ? logit[v] : -logit[v], Vec{});
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

    // The last hidden vector of the data decoder, [H, S]; `first_bias` carries the row's context.
    const float* decode(const float* first_bias) const {
        const float* in = scratch_.input;
        for (int i = 0; i < model_.n_data_layers; ++i) {
            float* out = scratch_.hidden[i % 2];
            const DenseLayer& layer = model_.data_layers[i];
            dense(layer, i == 0 ? first_bias : layer.bias, in, out, model_.negative_slope);
            in = out;
        }
        return in;
    }

   private:
    const ImportanceImputeModel& model_;
    const ImputeScratch& scratch_;

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
};

}  // namespace VSAE_ISA
}  // namespace vsae
