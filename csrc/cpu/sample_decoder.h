// Both decoders over a block of samples, samples in lanes, and the mask's likelihood on the way. The first kUsed
// vectors of a block are computed.
//
// The mask likelihood needs one log for up to 64 attributes: sum log(1 + e^-|a|) = log prod(1 + e^-|a|) <= 64 log 2.
#pragma once

#include "cpu/dense.h"
#include "cpu/impute_row.h"
#include "cpu/impute_scratch.h"

namespace vsae {
namespace VSAE_ISA {

inline constexpr int kFactorsPerLog = 64;  // (1 + e^-|a|) <= 2, so 2^64 cannot overflow
inline constexpr int kLogitsPerSum = 16;   // terms summed plainly before they join the compensated log-weight

class SampleDecoder {
   public:
    SampleDecoder(const ImportanceImputeModel& model, const ImputeScratch& scratch)
        : model_(model), scratch_(scratch) {}

    // Logits of the mask [M, S] for z in scratch.input.
    template <int kUsed = kVectors>
    const float* mask_logits() const {
        const DenseLayer& layer = model_.mask_layers[0];
        dense<kUsed>(layer, layer.bias, scratch_.input, scratch_.hidden[0], model_.negative_slope);
        return further<kUsed>(model_.mask_layers, model_.n_mask_layers);
    }

    // The same where z reaches the first layer as products that it begins with.
    const float* mask_logits(const Mirrored& first) const {
        const DenseLayer& layer = model_.mask_layers[0];
        dense_tiles(layer.weight, floats_per_tile(layer), 0, layer.n_out, nullptr, scratch_.hidden[0], first);
        return further<kVectors>(model_.mask_layers, model_.n_mask_layers);
    }

    // Writes pi(z) behind z and adds log p(m | z).
    template <int kUsed = kVectors>
    void score_mask(const ImputeRow& row, const float* logits, Sum* log_weight) const {
        float* pi = scratch_.input + static_cast<long>(model_.n_latent) * kBlock;
        constexpr int kTogether = kUsed == 1 ? 1 : 2;  // reciprocals
        Vec product[kUsed], total[kUsed] = {};
        for (int v = 0; v < kUsed; ++v) product[v] = splat(1.0f);
        for (int a = 0; a < model_.n_attributes; ++a) {
            for (int v = 0; v < kUsed; v += kTogether) {
                Vec logit[kTogether], tail[kTogether], factor[kTogether], inverse[kTogether];
                for (int i = 0; i < kTogether; ++i) {
                    logit[i] = load(logits + a * kBlock + (v + i) * kLanes);
                    tail[i] = exp_negative(-abs(logit[i]));
                    factor[i] = 1.0f + tail[i];
                    total[v + i] += min(row.observed(a) ? logit[i] : -logit[i], Vec{});
                    product[v + i] *= factor[i];
                }
                reciprocals(factor, inverse);  // sigmoid(|logit|)
                for (int i = 0; i < kTogether; ++i)
                    store(pi + a * kBlock + (v + i) * kLanes, logit[i] < 0.0f ? tail[i] * inverse[i] : inverse[i]);
            }
            if ((a + 1) % kFactorsPerLog == 0)
                for (int v = 0; v < kUsed; ++v) {
                    total[v] -= log(product[v]);
                    product[v] = splat(1.0f);
                }
            if ((a + 1) % kLogitsPerSum == 0)
                for (int v = 0; v < kUsed; ++v) {
                    log_weight[v].add(total[v]);
                    total[v] = Vec{};
                }
        }
        for (int v = 0; v < kUsed; ++v) log_weight[v].add(total[v] - log(product[v]));
    }

    // The last hidden vector of the data decoder, [H, S]; `first_bias` carries the row's context.
    template <int kUsed = kVectors>
    const float* decode(const float* first_bias) const {
        dense<kUsed>(model_.data_layers[0], first_bias, scratch_.input, scratch_.hidden[0], model_.negative_slope);
        return further<kUsed>(model_.data_layers, model_.n_data_layers);
    }

    const float* decode(const Mirrored& first) const {
        const DenseLayer& layer = model_.data_layers[0];
        dense_tiles(layer.weight + static_cast<long>(model_.n_latent) * kTileRows, floats_per_tile(layer),
                    model_.n_attributes, layer.n_out, scratch_.input + static_cast<long>(model_.n_latent) * kBlock,
                    scratch_.hidden[0], first);
        return further<kVectors>(model_.data_layers, model_.n_data_layers);
    }

   private:
    const ImportanceImputeModel& model_;
    const ImputeScratch& scratch_;

    template <int kUsed>
    const float* further(const DenseLayer* layers, int n_layers) const {
        return further_layers<kUsed>(layers, n_layers, scratch_.hidden[0], scratch_.hidden[1], model_.negative_slope);
    }

    // One division for two reciprocals of values between 1 and 2: a division costs as much as ten multiplications.
    static void reciprocals(const Vec (&x)[2], Vec (&inverse)[2]) {
        const Vec both = 1.0f / (x[0] * x[1]);
        inverse[0] = both * x[1];
        inverse[1] = both * x[0];
    }
    static void reciprocals(const Vec (&x)[1], Vec (&inverse)[1]) { inverse[0] = 1.0f / x[0]; }
};

}  // namespace VSAE_ISA
}  // namespace vsae
