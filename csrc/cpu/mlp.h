// A stack of dense layers with its activations and gradients: forward, and the way back into a ParameterStore.
#pragma once

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

// Where a layer's parameters stand; -1 for those of a normalisation that it has not.
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
    AlignedBuffer gradient;       // of out, then of the linear output
    AlignedBuffer mean, inverse;  // of the normalisation
    AlignedBuffer part_moments;   // of each part of the rows, before the normalisation
    AlignedBuffer transposed;     // weight, for the way back
    Normalisation forward{};

    int stride() const { return row_stride(shape.n_out); }
    int columns() const { return whole_lines(shape.n_out); }
};

class Mlp {
   public:
    Mlp(SharedWork& work, ParameterStore& store, float slope, int max_rows)
        : work_(work), store_(store), slope_(slope), max_rows_(max_rows) {}

    void add(const LayerShape& shape, const LayerParameters& parameters);

    int n_out() const { return layers_.back().shape.n_out; }
    Matrix output() { return {layers_.back().out.data(), layers_.back().stride()}; }
    // Gradient of the loss with respect to the output; to be filled before backward().
    Matrix output_gradient() { return {layers_.back().gradient.data(), layers_.back().stride()}; }
    Matrix first_gradient() { return {layers_[0].gradient.data(), layers_[0].stride()}; }
    const std::vector<LayerState>& layers() const { return layers_; }

    // `context`, where given, is added to the first linear map's output; it has a row for `n_samples` rows.
    void forward(Matrix in, int rows, bool training, const float* row_weight = nullptr, long weight_stride = 0,
                 const Matrix* context = nullptr, int n_samples = 1);

    // Whether so many rows are shared out to all threads, and the stack is not to be a task beside others.
    bool goes_in_parts(int rows) const;

    // Needs output_gradient(); overwrites the layers' gradients in the store. Writes the gradient of the input to `to`
    // (added to what stands there with `accumulate`), unless to.data is null.
    void backward(Matrix to, bool accumulate = false);

    // Adam's step on all parameters, on the calling thread.
    void update(const AdamStep& rule);

   private:
    SharedWork& work_;
    ParameterStore& store_;
    float slope_;
    int max_rows_;
    int rows_ = 0;
    bool in_parts_ = false;
    Matrix in_{};
    const Matrix* context_ = nullptr;
    int n_samples_ = 1;
    std::vector<LayerState> layers_;
    std::unique_ptr<AlignedBuffer> part_gradients_;  // of all parameters, for each part of the rows

    Matrix input(std::size_t layer);
    void describe_normalisation(LayerState& layer, bool training, const float* row_weight, long weight_stride);
    void linear(std::size_t layer, long begin, long end);
    void add_context(LayerState& layer, long begin, long end);
    void forward_in_parts(bool training);
    void activate_backward(LayerState& layer, long begin, long end);
    bool takes_bias_away(const LayerState& layer) const;
    void transpose(LayerState& layer);
    void input_gradient(std::size_t layer, Matrix to, bool accumulate, long begin, long end);
    void backward_in_parts(Matrix to, bool accumulate);
    NormalisationGradient normalisation_gradient(LayerState& layer);
    float* part_gradient(int part, long parameter);
    void parameter_gradients(std::size_t layer, int part, long begin, long end);
    long first_parameter() const { return layers_[0].parameters.weight; }
    long n_parameters() const;
};

}  // namespace vsae
