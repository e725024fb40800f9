// The latents' part of the work where the noise is a mirrored table (core/sample_order.h).
//
// Both decoders begin with a linear layer, W z = W mean + W (scale e): the first term is one of the row, and the second
// one product for a sample and its mirror image, the two halves of a block. So are the latents' terms of the
// log-weight, whose even powers of e a sample shares with its image.
#pragma once

#include <algorithm>
#include <cstring>

#include "cpu/dense.h"
#include "cpu/impute_scratch.h"

namespace vsae {
namespace VSAE_ISA {

inline constexpr int kLatentsPerSum = 16;  // terms summed plainly before they join the compensated log-weight

class MirroredLatents {
   public:
    MirroredLatents(const ImportanceImputeModel& model, const ImportanceImputeBatch& batch,
                    const ImputeScratch& scratch)
        : model_(model), batch_(batch), scratch_(scratch) {}

    // A row's proposal, and the bias of its first data layer.
    void prepare(const float* mean, const float* scale, const float* data_bias) {
        scale_ = scale;
        mean_ = mean;
        for (int l = 0; l < model_.n_latent; ++l)
            for (int r = 0; r < kTileRows; ++r) scratch_.mean_quads[l * kTileRows + r] = mean[l];
        centre(model_.mask_layers[0], model_.mask_layers[0].bias, scratch_.mask_centre);
        centre(model_.data_layers[0], data_bias, scratch_.data_centre);
    }

    // Computes a block's products and adds what the latents give to the log-weights: (e^2 - z^2) / 2 = e (a e + b) + c
    // for each, a = (1 - scale^2) / 2 and b = -mean scale; the constants c stand in the row's.
    void begin_block(int block, Sum* log_weight) const {
        const int n_latent = model_.n_latent;
        const float* noise = batch_.noise + static_cast<long>(block) * n_latent * kBlock;
        for (int begin = 0; begin < n_latent; begin += kLatentsPerSum) {
            const int end = std::min(begin + kLatentsPerSum, n_latent);
            Vec even[kHalfVectors] = {}, odd[kHalfVectors] = {};
            for (int l = begin; l < end; ++l) {
                const float square = 0.5f - 0.5f * scale_[l] * scale_[l];
                const float linear = -mean_[l] * scale_[l];
                for (int v = 0; v < kHalfVectors; ++v) {
                    const Vec e = load(noise + l * kBlock + v * kLanes);
                    store(scratch_.input + l * kBlockLanes + v * kLanes, scale_[l] * e);
                    even[v] += square * e * e;
                    odd[v] += linear * e;
                }
            }
            for (int v = 0; v < kHalfVectors; ++v) {
                log_weight[v].add(even[v] + odd[v]);
                log_weight[kHalfVectors + v].add(even[v] - odd[v]);
            }
        }
        multiply(model_.mask_layers[0], scratch_.mask_product);
        multiply(model_.data_layers[0], scratch_.data_product);
    }

    Mirrored mask_layer(float slope) const {
        return {scratch_.mask_centre, model_.mask_layers[0].activation ? slope : 1.0f, scratch_.mask_product};
    }
    Mirrored data_layer(float slope) const {
        return {scratch_.data_centre, model_.data_layers[0].activation ? slope : 1.0f, scratch_.data_product};
    }

   private:
    typedef float Quad __attribute__((vector_size(kTileRows * sizeof(float))));
    const ImportanceImputeModel& model_;
    const ImportanceImputeBatch& batch_;
    const ImputeScratch& scratch_;
    const float* mean_ = nullptr;
    const float* scale_ = nullptr;

    static Quad load_quad(const float* p) {
        Quad q;
        std::memcpy(&q, p, sizeof(Quad));
        return q;
    }

    void centre(const DenseLayer& layer, const float* bias, float* to) const {
        constexpr int kTogether = 8;                 // tiles, to hide the latency of multiply-adds
        constexpr int kInputs = kLanes / kTileRows;  // in a vector of a tile's weights
        const int whole = model_.n_latent / kInputs * kInputs;
        for (int first = 0; first < tiles(layer.n_out); first += kTogether) {
            const int count = std::min(tiles(layer.n_out) - first, kTogether);
            const float* w[kTogether];
            Vec sum[kTogether] = {};
            for (int t = 0; t < kTogether; ++t)
                w[t] = layer.weight + (first + (t < count ? t : 0)) * floats_per_tile(layer);
            for (int l = 0; l < whole; l += kInputs) {
                const Vec mean = load(scratch_.mean_quads + l * kTileRows);
                VSAE_UNROLL
                for (int t = 0; t < kTogether; ++t) sum[t] += mean * load_unaligned(w[t] + l * kTileRows);
            }
            for (int t = 0; t < count; ++t) {
                Quad total = load_quad(bias + (first + t) * kTileRows), parts[kInputs];
                std::memcpy(parts, &sum[t], sizeof(Vec));
                for (int i = 0; i < kInputs; ++i) total += parts[i];
                for (int l = whole; l < model_.n_latent; ++l) total += mean_[l] * load_quad(w[t] + l * kTileRows);
                std::memcpy(to + (first + t) * kTileRows, &total, sizeof(Quad));
            }
        }
    }

    // Weights times scaled noise, [n_out, half a block].
    void multiply(const DenseLayer& layer, float* product) const {
        dense_tiles<kHalfVectors * kLanes>(layer.weight, floats_per_tile(layer), model_.n_latent, layer.n_out,
                                           scratch_.input, product, Plain{});
    }
};

}  // namespace VSAE_ISA
}  // namespace vsae
