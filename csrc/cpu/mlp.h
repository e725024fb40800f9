// A stack of dense layers with its activations and gradients: forward, and the way back into a ParameterStore.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "core/training_step.h"
#include "cpu/aligned_buffer.h"
#include "cpu/parameter_store.h"
#include "cpu/shared_work.h"

namespace vsae {

// Rows of single-precision values; columns past the last are never read as values.
struct Matrix {
    float* data;
    int stride;
};

struct LayerShape {
    int n_in;
    int n_out;
    bool norm;        // batch normalisation behind the linear map, LeakyReLU behind that
    bool activation;  // LeakyReLU where there is no batch normalisation
};

// Where a layer's parameters stand; -1 for the ones that it has not.
struct LayerParameters {
    long weight = -1;  // [n_in, n_out]
    long bias = -1;
    long gamma = -1, beta = -1;
    long running_mean = -1, running_var = -1;
};

struct LayerState {
    LayerShape shape;
    LayerParameters parameters;
    AlignedBuffer h;  // normalised values, where there is a batch norm
    AlignedBuffer out;
    AlignedBuffer gradient;  // of out, then of the linear output
    AlignedBuffer inverse;
    Normalisation forward{};
};

class Mlp {
   public:
    Mlp(SharedWork& work, ParameterStore& store, float slope, int max_rows)
        : work_(work), store_(store), slope_(slope), max_rows_(max_rows) {}

    void add(const LayerShape& shape, const LayerParameters& parameters) {
        const long floats = static_cast<long>(max_rows_) * row_stride(shape.n_out);
        layers_.push_back({shape, parameters, AlignedBuffer::zeros(shape.norm ? floats : 0),
                           AlignedBuffer::zeros(floats), AlignedBuffer::zeros(floats),
                           AlignedBuffer::zeros(row_stride(shape.n_out))});
        const long transposed = static_cast<long>(shape.n_out) * row_stride(shape.n_in);
        if (transposed > n_transposed_) n_transposed_ = transposed;
    }

    int n_out() const { return layers_.back().shape.n_out; }
    Matrix output() { return {layers_.back().out.data(), row_stride(n_out())}; }
    // Gradient of the loss with respect to the output; to be filled before backward().
    Matrix output_gradient() { return {layers_.back().gradient.data(), row_stride(n_out())}; }
    Matrix first_gradient() { return {layers_[0].gradient.data(), row_stride(layers_[0].shape.n_out)}; }
    const std::vector<LayerState>& layers() const { return layers_; }

    // `context`, where given, is added to the first linear map's output; it has a row per `context_rows` rows.
    void forward(Matrix in, int rows, bool training, const float* row_weight = nullptr, long weight_stride = 0,
                 const Matrix* context = nullptr, int context_rows = 0) {
        in_ = in;
        rows_ = rows;
        Matrix x = in;
        for (std::size_t i = 0; i < layers_.size(); ++i) {
            LayerState& layer = layers_[i];
            const int stride = row_stride(layer.shape.n_out);
            float* linear = layer.shape.norm ? layer.h.data() : layer.out.data();
            const bool adds = i == 0 && context;
            const float* bias = layer.parameters.bias < 0 ? nullptr : store_.value(layer.parameters.bias);
            if (adds) add_context(linear, stride, rows, layer.shape.n_out, *context, context_rows, bias);
            const bool activates = !layer.shape.norm && layer.shape.activation;
            work_.product({x.data, x.stride, 1, store_.value(layer.parameters.weight), stride, bias, linear, stride,
                           rows, whole_lines(layer.shape.n_out), layer.shape.n_in, adds, activates ? slope_ : 1.0f});
            if (layer.shape.norm) {
                const LayerParameters& p = layer.parameters;
                layer.forward = {rows,
                                 whole_lines(layer.shape.n_out),
                                 stride,
                                 linear,
                                 layer.out.data(),
                                 row_weight,
                                 weight_stride,
                                 store_.value(p.gamma),
                                 store_.value(p.beta),
                                 store_.fixed(p.running_mean),
                                 store_.fixed(p.running_var),
                                 layer.inverse.data(),
                                 slope_,
                                 training,
                                 false};
                work_.normalise(layer.forward);
            }
            x = {layer.out.data(), stride};
        }
    }

    // Needs output_gradient(); overwrites the layers' gradients in the store. Writes the gradient of the input to `to`
    // (added to what stands there with `accumulate`), unless to.data is null.
    void backward(Matrix to, bool accumulate = false) {
        if (!transposed_) transposed_.reset(new AlignedBuffer(n_transposed_));
        for (std::size_t i = layers_.size(); i-- > 0;) {
            LayerState& layer = layers_[i];
            const LayerParameters& p = layer.parameters;
            const int stride = row_stride(layer.shape.n_out), columns = whole_lines(layer.shape.n_out);
            float* gradient = layer.gradient.data();
            if (layer.shape.norm)
                work_.normalise_backward({layer.forward, gradient, store_.gradient(p.gamma), store_.gradient(p.beta)});
            else if (layer.shape.activation)
                work_.rows(rows_, kTermsPerValue * rows_ * stride, [&](long begin, long end, int) {
                    work_.kernels.activate_backward(gradient + begin * stride, layer.out.data() + begin * stride,
                                                    (end - begin) * stride, slope_);
                });
            const Matrix below = i ? Matrix{layers_[i - 1].out.data(), row_stride(layers_[i - 1].shape.n_out)} : in_;
            work_.product({below.data, 1, below.stride, gradient, stride, nullptr, store_.gradient(p.weight), stride,
                           layer.shape.n_in, columns, rows_, false});
            // The batch's mean takes the bias away again: where it was used the gradient is zero, not its rounding.
            if (p.bias >= 0 && layer.shape.norm && layer.forward.from_batch)
                std::fill_n(store_.gradient(p.bias), columns, 0.0f);
            else if (p.bias >= 0)
                work_.kernels.column_sum(gradient, rows_, columns, stride, store_.gradient(p.bias));
            const Matrix down = i ? Matrix{layers_[i - 1].gradient.data(), row_stride(layers_[i - 1].shape.n_out)} : to;
            if (!down.data) continue;
            transpose(store_.value(p.weight), layer.shape.n_in, layer.shape.n_out);
            work_.product({gradient, stride, 1, transposed_->data(), row_stride(layer.shape.n_in), nullptr, down.data,
                           down.stride, rows_, whole_lines(layer.shape.n_in), layer.shape.n_out, i == 0 && accumulate});
        }
    }

   private:
    static constexpr long kTermsPerValue = 8;  // a pass over memory beside multiply-adds
    SharedWork& work_;
    ParameterStore& store_;
    float slope_;
    int max_rows_;
    int rows_ = 0;
    Matrix in_{};
    long n_transposed_ = 0;
    std::vector<LayerState> layers_;
    std::unique_ptr<AlignedBuffer> transposed_;

    void add_context(float* to, int stride, int rows, int columns, Matrix context, int context_rows,
                     const float* bias) {
        work_.rows(rows, kTermsPerValue * rows * stride, [&](long begin, long end, int) {
            for (long r = begin; r < end; ++r)
                for (int c = 0; c < whole_lines(columns); ++c)
                    to[r * stride + c] = context.data[r % context_rows * context.stride + c] + (bias ? bias[c] : 0.0f);
        });
    }

    // Columns past n_in stay zero: the buffer is cleared wherever a narrower layer is written.
    void transpose(const float* weight, int n_in, int n_out) {
        float* to = transposed_->data();
        const int from_stride = row_stride(n_out), to_stride = row_stride(n_in);
        for (int o = 0; o < n_out; ++o) {
            for (int i = 0; i < n_in; ++i)
                to[static_cast<long>(o) * to_stride + i] = weight[static_cast<long>(i) * from_stride + o];
            for (int i = n_in; i < whole_lines(n_in); ++i) to[static_cast<long>(o) * to_stride + i] = 0.0f;
        }
    }
};

}  // namespace vsae
