// The latents' part of the work where the noise is a mirrored table (core/sample_order.h).
//
// Both decoders begin with a linear layer, W z = W mean + W (scale e): the first term is one of the row, and the second
// one product for a sample and its mirror image. A block's vectors are e0, -e0, e2 in one look and e0', -e0', -e2 in
// the next, so that three products serve six vectors; so do the latents' terms of the log-weight, whose even powers of
// e a sample shares with its image.
#pragma once

#include <algorithm>
#include <cstring>

#include "core/impute_scratch.h"
#include "cpu/dense.h"
#include "cpu/weighted_sums.h"

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
        centre(model_.mask_layers[0], model_.mask_layers[0].bias, scratch_.mask_centre);
        centre(model_.data_layers[0], data_bias, scratch_.data_centre);
    }

    // Blocks come in order. Adds what the latents give to the log-weights.
    void begin_block(int block, Sum* log_weight) {
        const int look = block / kBlocksPerLook;
        turn_ = block % kBlocksPerLook;
        // A row that may stop at any look computes nothing for the next one.
        if (batch_.tolerance <= 0) {
            if (look % 2 == 0) multiply<0, 3>(block);
        } else if (look % 2 == 0) {
            multiply<0, 2>(block);
        } else {
            multiply<2, 1>(block - kBlocksPerLook);
        }
        for (int v = 0; v < kVectors; ++v) {
            const bool second = look % 2 == 1;
            product_[v] = v == 2 ? 1 : second ? 2 : 0;
            sign_[v] = v == 1 || (v == 2 && second) ? -1.0f : 1.0f;
            const Sum& even = terms_[turn_][product_[v]].even;
            const Sum& odd = terms_[turn_][product_[v]].odd;
            log_weight[v].add(even.total);
            log_weight[v].add(sign_[v] * odd.total);
            log_weight[v].add(-even.dropped - sign_[v] * odd.dropped);
        }
    }

    Mirrored mask_layer(float slope) const {
        return layer(scratch_.mask_centre, scratch_.mask_product, model_.mask_layers[0], slope);
    }
    Mirrored data_layer(float slope) const {
        return layer(scratch_.data_centre, scratch_.data_product, model_.data_layers[0], slope);
    }

   private:
    struct Terms {
        Sum even, odd;
    };
    typedef float Quad __attribute__((vector_size(kTileRows * sizeof(float))));
    const ImportanceImputeModel& model_;
    const ImportanceImputeBatch& batch_;
    const ImputeScratch& scratch_;
    const float* mean_ = nullptr;
    const float* scale_ = nullptr;
    Terms terms_[kBlocksPerLook][kVectors];
    int turn_ = 0;
    int product_[kVectors] = {};  // which of the three products a vector of the block takes
    float sign_[kVectors] = {};

    static Quad load_quad(const float* p) {
        Quad q;
        std::memcpy(&q, p, sizeof(Quad));
        return q;
    }

    static long product_floats(const DenseLayer& layer) { return static_cast<long>(padded(layer.n_out)) * kBlock; }

    void centre(const DenseLayer& layer, const float* bias, float* to) const {
        constexpr int kTogether = 4;  // tiles, to hide the latency of multiply-adds
        for (int first = 0; first < tiles(layer.n_out); first += kTogether) {
            const int count = std::min(tiles(layer.n_out) - first, kTogether);
            const float* w[kTogether];
            Quad sum[kTogether];
            for (int t = 0; t < kTogether; ++t) {
                const int tile = first + (t < count ? t : 0);
                w[t] = layer.weight + tile * floats_per_tile(layer);
                sum[t] = load_quad(bias + tile * kTileRows);
            }
            for (int l = 0; l < model_.n_latent; ++l)
                for (int t = 0; t < kTogether; ++t) sum[t] += mean_[l] * load_quad(w[t] + l * kTileRows);
            for (int t = 0; t < count; ++t) std::memcpy(to + (first + t) * kTileRows, &sum[t], sizeof(Quad));
        }
    }

    // Products first..first+count-1 of e0 and e2 of a block and of e0' of the one a look further on, zeros where there
    // is none. The log-weight has (e^2 - z^2) / 2 = e (a e + b) + c for each latent, a = (1 - scale^2) / 2 and
    // b = -mean scale; the constants c stand in the row's.
    template <int kFirst, int kCount>
    void multiply(int block) {
        const long n_latent = model_.n_latent;
        const float* own = batch_.noise + block * n_latent * kBlock;
        const bool further = block + kBlocksPerLook < batch_.n_blocks;
        const float* noise[kVectors] = {own, own + 2 * kLanes,
                                        own + (further ? kBlocksPerLook : 0) * n_latent * kBlock};
        Terms* terms = terms_[turn_];
        for (int v = kFirst; v < kFirst + kCount; ++v) terms[v] = Terms{};
        for (int begin = 0; begin < n_latent; begin += kLatentsPerSum) {
            const int end = begin + kLatentsPerSum < n_latent ? begin + kLatentsPerSum : static_cast<int>(n_latent);
            Vec even[kCount] = {}, odd[kCount] = {};
            for (int l = begin; l < end; ++l) {
                const float square = 0.5f - 0.5f * scale_[l] * scale_[l];
                const float linear = -mean_[l] * scale_[l];
                for (int v = 0; v < kCount; ++v) {
                    const Vec e = load(noise[kFirst + v] + l * kBlock);
                    store(scratch_.input + l * kBlock + v * kLanes, scale_[l] * e);
                    even[v] += square * e * e;
                    odd[v] += linear * e;
                }
            }
            for (int v = 0; v < kCount; ++v) {
                terms[kFirst + v].even.add(even[v]);
                terms[kFirst + v].odd.add(odd[v]);
            }
        }
        multiply<kFirst, kCount>(model_.mask_layers[0], scratch_.mask_product);
        multiply<kFirst, kCount>(model_.data_layers[0], scratch_.data_product);
    }

    template <int kFirst, int kCount>
    void multiply(const DenseLayer& layer, float* product) const {
        dense_tiles<kCount>(layer.weight, floats_per_tile(layer), model_.n_latent, layer.n_out, scratch_.input,
                            product + turn_ * product_floats(layer) + kFirst * kLanes, Plain{});
    }

    Mirrored layer(const float* centre, const float* product, const DenseLayer& dense, float slope) const {
        Mirrored ends{centre, dense.activation ? slope : 1.0f, {}, {}};
        for (int v = 0; v < kVectors; ++v) {
            ends.start[v] = product + turn_ * product_floats(dense) + product_[v] * kLanes;
            ends.sign[v] = sign_[v];
        }
        return ends;
    }
};

}  // namespace VSAE_ISA
}  // namespace vsae
