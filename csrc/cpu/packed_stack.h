// A folded stack of layers packed as core/tile.h says. Buffers are kept from one step of training to the next.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/importance_impute.h"
#include "core/tile.h"
#include "cpu/aligned_buffer.h"
#include "cpu/folded_mlp.h"

namespace vsae {

class PackedStack {
   public:
    // Packs all layers but the last `n_left`; their biases stay with `stack`.
    void pack(const FoldedMlp& stack, std::size_t n_left = 0) {
        const std::size_t n_layers = stack.layers().size() - n_left;
        for (std::size_t i = 0; i < n_layers; ++i) {
            const FoldedMlp::Layer& layer = stack.layers()[i];
            pack(i, layer.weight.data(), layer.bias.data(), layer.n_in, layer.n_out, layer.active);
        }
    }

    // Packs layer i; weights [n_in, n_out] and bias have rows of row_stride(n_out), zeros behind the outputs.
    void pack(std::size_t i, const float* weight, const float* bias, int n_in, int n_out, bool active) {
        if (i == layers_.size()) {
            weights_.emplace_back(static_cast<long>(padded(n_out)) * n_in);
            layers_.push_back({n_in, n_out, active, weights_.back().data(), nullptr});
        }
        layers_[i].bias = bias;
        float* to = weights_[i].data();
        for (int tile = 0; tile < tiles(n_out); ++tile)
            for (long in = 0; in < n_in; ++in, to += kTileRows)
                std::memcpy(to, weight + in * row_stride(n_out) + tile * kTileRows, kTileRows * sizeof(float));
    }

    const DenseLayer* layers() const { return layers_.data(); }
    const DenseLayer& first() const { return layers_.front(); }
    int size() const { return static_cast<int>(layers_.size()); }

    int widest() const {
        int widest = 0;
        for (const DenseLayer& layer : layers_) widest = std::max(widest, padded(layer.n_out));
        return widest;
    }

   private:
    std::vector<AlignedBuffer> weights_;
    std::vector<DenseLayer> layers_;
};

}  // namespace vsae
