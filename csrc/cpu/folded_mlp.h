// A trained stack of layers in evaluation mode: batch norm folded into the first layer, linear neighbours multiplied
// out.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "cpu/mlp.h"

namespace vsae {

// One dense layer as torch keeps it: weight [n_out, n_in], bias [n_out] or null.
struct RowMajorLayer {
    const float* weight;
    const float* bias;
    int n_in, n_out;
    bool active;
};

class FoldedMlp {
   public:
    struct Layer {
        int n_in, n_out;
        bool active;
        AlignedBuffer weight, bias;  // [n_in, n_out] with rows of row_stride(n_out), and a row
    };

    // Layers that have been folded already.
    FoldedMlp(const TrainingKernels& kernels, const std::vector<RowMajorLayer>& layers, float slope)
        : kernels_(kernels), slope_(slope) {
        for (const RowMajorLayer& layer : layers) {
            const int stride = row_stride(layer.n_out);
            AlignedBuffer weight = AlignedBuffer::zeros(static_cast<long>(layer.n_in) * stride),
                          bias = AlignedBuffer::zeros(stride);
            for (int o = 0; o < layer.n_out; ++o) {
                for (int i = 0; i < layer.n_in; ++i)
                    weight.data()[static_cast<long>(i) * stride + o] =
                        layer.weight[static_cast<long>(o) * layer.n_in + i];
                bias.data()[o] = layer.bias ? layer.bias[o] : 0.0f;
            }
            layers_.push_back({layer.n_in, layer.n_out, layer.active, std::move(weight), std::move(bias)});
        }
    }

    FoldedMlp(const TrainingKernels& kernels, ParameterStore& store, const Mlp& mlp, float slope)
        : kernels_(kernels), slope_(slope) {
        for (const LayerState& layer : mlp.layers()) {
            const int stride = row_stride(layer.shape.n_out);
            AlignedBuffer weight = AlignedBuffer::zeros(static_cast<long>(layer.shape.n_in) * stride),
                          bias = AlignedBuffer::zeros(stride);
            const float* w = store.value(layer.parameters.weight);
            const float* b = store.value(layer.parameters.bias);
            for (int o = 0; o < layer.shape.n_out; ++o) {
                float factor = 1, shift = 0;
                if (layer.shape.norm) {
                    const LayerParameters& p = layer.parameters;
                    factor = store.value(p.gamma)[o] / std::sqrt(store.fixed(p.running_var)[o] + 1e-5f);
                    shift = store.value(p.beta)[o] - store.fixed(p.running_mean)[o] * factor;
                    factors_.push_back(factor);
                }
                for (int i = 0; i < layer.shape.n_in; ++i)
                    weight.data()[static_cast<long>(i) * stride + o] = factor * w[static_cast<long>(i) * stride + o];
                bias.data()[o] = factor * b[o] + shift;
            }
            const bool active = layer.shape.norm || layer.shape.activation;
            if (!layers_.empty() && !layers_.back().active) {
                Layer before = std::move(layers_.back());
                layers_.pop_back();
                AlignedBuffer merged = AlignedBuffer::zeros(static_cast<long>(before.n_in) * stride),
                              merged_bias = AlignedBuffer::zeros(stride);
                const int inner = row_stride(before.n_out), columns = whole_lines(layer.shape.n_out);
                kernels_.product({before.weight.data(), inner, 1, weight.data(), stride, nullptr, merged.data(), stride,
                                  before.n_in, columns, before.n_out, false});
                kernels_.product({before.bias.data(), inner, 1, weight.data(), stride, bias.data(), merged_bias.data(),
                                  stride, 1, columns, before.n_out, false});
                layers_.push_back({before.n_in, layer.shape.n_out, active, std::move(merged), std::move(merged_bias)});
            } else {
                layers_.push_back({layer.shape.n_in, layer.shape.n_out, active, std::move(weight), std::move(bias)});
            }
        }
    }

    // Factor of the first layer's outputs, which a context has to be multiplied by.
    const std::vector<float>& factors() const { return factors_; }

    const std::vector<Layer>& layers() const { return layers_; }
    float slope() const { return slope_; }  // of LeakyReLU
    int n_in() const { return layers_.front().n_in; }
    int n_out() const { return layers_.back().n_out; }

    // Floats that a row of either scratch buffer takes.
    int scratch_stride() const {
        int widest = 0;
        for (const Layer& layer : layers_) widest = std::max(widest, row_stride(layer.n_out));
        return widest;
    }

    int n_hidden() const { return layers_.back().n_in; }
    // The last layer: weight [n_hidden, n_out] and bias, rows of row_stride(n_out).
    const float* output_weight() const { return layers_.back().weight.data(); }
    const float* output_bias() const { return layers_.back().bias.data(); }

    // Runs `rows` rows and writes their outputs to `out`.
    void run(Matrix in, int rows, float* even, float* odd, float* out) const {
        for (std::size_t i = 0; i < layers_.size(); ++i) {
            float* to = i + 1 == layers_.size() ? out : i % 2 ? odd : even;
            in = run_layer(layers_[i], in, rows, to);
        }
    }

   private:
    Matrix run_layer(const Layer& layer, Matrix in, int rows, float* to) const {
        const int stride = row_stride(layer.n_out);
        kernels_.product({in.data, in.stride, 1, layer.weight.data(), stride, layer.bias.data(), to, stride, rows,
                          whole_lines(layer.n_out), layer.n_in, false, layer.active ? slope_ : 1.0f});
        return {to, stride};
    }

    const TrainingKernels& kernels_;
    float slope_;
    std::vector<Layer> layers_;
    std::vector<float> factors_;
};

}  // namespace vsae
