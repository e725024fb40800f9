#include "cpu/mlp.h"

#include <algorithm>
#include <array>

namespace vsae {

namespace {

constexpr long kTermsPerValue = 8;  // a pass over memory beside multiply-adds

}  // namespace

void Mlp::add(const LayerShape& shape, const LayerParameters& parameters) {
    const int stride = row_stride(shape.n_out);
    const long floats = static_cast<long>(max_rows_) * stride;
    layers_.push_back({shape, parameters, AlignedBuffer::zeros(shape.norm ? floats : 0), AlignedBuffer::zeros(floats),
                       AlignedBuffer::zeros(floats), AlignedBuffer::zeros(stride), AlignedBuffer::zeros(stride),
                       AlignedBuffer::zeros(shape.norm ? 2L * SharedWork::kMaxParts * whole_lines(shape.n_out) : 0),
                       AlignedBuffer::zeros(static_cast<long>(shape.n_out) * row_stride(shape.n_in))});
}

// What the linear map of a layer is fed.
Matrix Mlp::input(std::size_t layer) {
    return layer ? Matrix{layers_[layer - 1].out.data(), layers_[layer - 1].stride()} : in_;
}

// Multiply-adds of a layer's linear map.
static long terms(const LayerState& layer, int rows) {
    return static_cast<long>(rows) * layer.columns() * layer.shape.n_in;
}

void Mlp::forward(Matrix in, int rows, bool training, const float* row_weight, long weight_stride,
                  const Matrix* context, int n_samples) {
    in_ = in;
    rows_ = rows;
    context_ = context;
    n_samples_ = n_samples;
    in_parts_ = goes_in_parts(rows);
    for (LayerState& layer : layers_)
        if (layer.shape.norm) describe_normalisation(layer, training, row_weight, weight_stride);
    if (in_parts_) return forward_in_parts(training);
    for (std::size_t i = 0; i < layers_.size(); ++i) {
        work_.rows(rows, terms(layers_[i], rows), [&](long begin, long end, int) { linear(i, begin, end); });
        if (layers_[i].shape.norm) work_.normalise(layers_[i].forward);
    }
}

bool Mlp::goes_in_parts(int rows) const {
    long most = 0;
    for (const LayerState& layer : layers_) most = std::max(most, terms(layer, rows));
    return work_.in_parts(rows, most);
}

void Mlp::describe_normalisation(LayerState& layer, bool training, const float* row_weight, long weight_stride) {
    const LayerParameters& p = layer.parameters;
    layer.forward = {rows_,
                     layer.columns(),
                     layer.stride(),
                     layer.h.data(),
                     layer.out.data(),
                     row_weight,
                     weight_stride,
                     store_.value(p.gamma),
                     store_.value(p.beta),
                     store_.fixed(p.running_mean),
                     store_.fixed(p.running_var),
                     layer.mean.data(),
                     layer.inverse.data(),
                     slope_,
                     training,
                     false};
}

// The linear map of rows begin..end-1, with the activation behind it where no normalisation comes first.
void Mlp::linear(std::size_t index, long begin, long end) {
    LayerState& layer = layers_[index];
    const bool adds = index == 0 && context_;
    if (adds) add_context(layer, begin, end);
    const LayerParameters& p = layer.parameters;
    const Matrix in = input(index);
    float* to = layer.shape.norm ? layer.h.data() : layer.out.data();
    work_.kernels.product({in.data + begin * in.stride, in.stride, 1, store_.value(p.weight), layer.stride(),
                           store_.value(p.bias), to + begin * layer.stride(), layer.stride(),
                           static_cast<int>(end - begin), layer.columns(), layer.shape.n_in, adds,
                           layer.shape.activation && !layer.shape.norm ? slope_ : 1.0f});
}

void Mlp::add_context(LayerState& layer, long begin, long end) {
    work_.kernels.add_context({context_->data, context_->stride, n_samples_, store_.value(layer.parameters.bias),
                               layer.shape.norm ? layer.h.data() : layer.out.data(), layer.stride(), begin, end,
                               layer.columns()});
}

// The same part by part: only a normalised layer needs all rows, and ends a round.
void Mlp::forward_in_parts(bool training) {
    const std::size_t n_layers = layers_.size();
    std::array<RowMoments, SharedWork::kMaxParts> moments{};
    for (std::size_t first = 0;;) {
        std::size_t next = first;
        while (next < n_layers && !layers_[next].shape.norm) ++next;
        LayerState* below = first ? &layers_[first - 1] : nullptr;
        LayerState* normed = next < n_layers ? &layers_[next] : nullptr;
        work_.parts(rows_, SharedWork::n_parts(rows_), true, [&](int part, int begin, int end) {
            if (below) work_.kernels.normalise_rows(below->forward, begin, end);
            for (std::size_t i = first; i < next; ++i) linear(i, begin, end);
            if (!normed) return;
            linear(next, begin, end);
            float* of_part = normed->part_moments.data() + 2L * part * normed->columns();
            RowMoments& mine =
                moments[static_cast<std::size_t>(part)] = {begin, end, of_part, of_part + normed->columns()};
            if (training) work_.kernels.moments_of_rows(normed->forward, mine);
        });
        if (!normed) return;
        work_.kernels.merge_moments(normed->forward, moments.data(), SharedWork::n_parts(rows_));
        first = next + 1;
    }
}

void Mlp::activate_backward(LayerState& layer, long begin, long end) {
    const int stride = layer.stride();
    work_.kernels.activate_backward(layer.gradient.data() + begin * stride, layer.out.data() + begin * stride,
                                    (end - begin) * stride, slope_);
}

// The batch's mean takes the bias away again: where it was used the bias's gradient is zero, not its rounding.
bool Mlp::takes_bias_away(const LayerState& layer) const { return layer.shape.norm && layer.forward.from_batch; }

void Mlp::transpose(LayerState& layer) {
    work_.kernels.transpose(store_.value(layer.parameters.weight), layer.stride(), layer.shape.n_in, layer.shape.n_out,
                            layer.transposed.data(), row_stride(layer.shape.n_in));
}

// Needs the layer's transposed weight.
void Mlp::input_gradient(std::size_t index, Matrix to, bool accumulate, long begin, long end) {
    LayerState& layer = layers_[index];
    work_.kernels.product({layer.gradient.data() + begin * layer.stride(), layer.stride(), 1, layer.transposed.data(),
                           row_stride(layer.shape.n_in), nullptr, to.data + begin * to.stride, to.stride,
                           static_cast<int>(end - begin), whole_lines(layer.shape.n_in), layer.shape.n_out,
                           accumulate});
}

void Mlp::backward(Matrix to, bool accumulate) {
    if (in_parts_) return backward_in_parts(to, accumulate);
    for (std::size_t i = layers_.size(); i-- > 0;) {
        LayerState& layer = layers_[i];
        const LayerParameters& p = layer.parameters;
        float* gradient = layer.gradient.data();
        if (layer.shape.norm)
            work_.normalise_backward({layer.forward, gradient, store_.gradient(p.gamma), store_.gradient(p.beta)});
        else if (layer.shape.activation)
            work_.rows(rows_, kTermsPerValue * rows_ * layer.stride(),
                       [&](long begin, long end, int) { activate_backward(layer, begin, end); });
        const Matrix below = input(i);
        work_.product({below.data, 1, below.stride, gradient, layer.stride(), nullptr, store_.gradient(p.weight),
                       layer.stride(), layer.shape.n_in, layer.columns(), rows_, false});
        if (takes_bias_away(layer))
            std::fill_n(store_.gradient(p.bias), layer.columns(), 0.0f);
        else
            work_.kernels.column_sum(gradient, rows_, layer.columns(), layer.stride(), store_.gradient(p.bias));
        const Matrix down = i ? Matrix{layers_[i - 1].gradient.data(), layers_[i - 1].stride()} : to;
        if (!down.data) continue;
        transpose(layer);
        work_.rows(rows_, terms(layer, rows_),
                   [&](long begin, long end, int) { input_gradient(i, down, i == 0 && accumulate, begin, end); });
    }
}

// From the first weight to the last layer's end.
long Mlp::n_parameters() const {
    const LayerState& last = layers_.back();
    return std::max(last.parameters.bias, last.parameters.beta) + last.stride() - first_parameter();
}

// The way back of forward_in_parts(): each part has gradients of its own, which are added at the end.
void Mlp::backward_in_parts(Matrix to, bool accumulate) {
    if (!part_gradients_)
        part_gradients_ = std::make_unique<AlignedBuffer>(AlignedBuffer::zeros(SharedWork::kMaxParts * n_parameters()));
    for (std::size_t i = to.data ? 0 : 1; i < layers_.size(); ++i) transpose(layers_[i]);
    const auto down = [&](std::size_t i, int begin, int end) {
        if (i)
            input_gradient(i, {layers_[i - 1].gradient.data(), layers_[i - 1].stride()}, false, begin, end);
        else if (to.data)
            input_gradient(i, to, accumulate, begin, end);
    };
    for (std::size_t top = layers_.size();;) {  // layers from `top` on are done, but for what a normalised one lacks
        std::size_t bottom = top;
        while (bottom > 0 && !layers_[bottom - 1].shape.norm) --bottom;
        work_.parts(rows_, SharedWork::n_parts(rows_), true, [&](int part, int begin, int end) {
            if (top < layers_.size()) {
                work_.kernels.gradient_of_rows(normalisation_gradient(layers_[top]), begin, end);
                parameter_gradients(top, part, begin, end);
                down(top, begin, end);
            }
            for (std::size_t i = top; i-- > bottom;) {
                if (layers_[i].shape.activation) activate_backward(layers_[i], begin, end);
                parameter_gradients(i, part, begin, end);
                down(i, begin, end);
            }
            if (bottom == 0) return;
            LayerState& normed = layers_[bottom - 1];
            work_.kernels.gradient_sums_of_rows(
                {normed.forward, normed.gradient.data(), part_gradient(part, normed.parameters.gamma),
                 part_gradient(part, normed.parameters.beta)},
                begin, end);
        });
        if (bottom == 0) break;
        top = bottom - 1;
        for (const long parameter : {layers_[top].parameters.gamma, layers_[top].parameters.beta})
            work_.kernels.sum_parts(part_gradient(0, parameter), n_parameters(), SharedWork::n_parts(rows_),
                                    store_.gradient(parameter), layers_[top].columns());
    }
    const long base = first_parameter(), n = n_parameters();
    work_.rows(n / kLine, SharedWork::n_parts(rows_) * n, [&](long begin, long end, int) {
        work_.kernels.sum_parts(part_gradient(0, base + begin * kLine), n, SharedWork::n_parts(rows_),
                                store_.gradient(base + begin * kLine), (end - begin) * kLine);
    });
}

void Mlp::update(const AdamStep& rule) {
    for (const LayerState& layer : layers_) {
        const LayerParameters& p = layer.parameters;
        store_.update(work_.kernels, rule, p.weight, static_cast<long>(layer.shape.n_in) * layer.stride());
        store_.update(work_.kernels, rule, p.bias, layer.stride());
        if (!layer.shape.norm) continue;
        for (const long vector : {p.gamma, p.beta}) store_.update(work_.kernels, rule, vector, layer.stride());
    }
}

NormalisationGradient Mlp::normalisation_gradient(LayerState& layer) {
    return {layer.forward, layer.gradient.data(), store_.gradient(layer.parameters.gamma),
            store_.gradient(layer.parameters.beta)};
}

// The gradient of a parameter that stands for one part of the rows.
float* Mlp::part_gradient(int part, long parameter) {
    return part_gradients_->data() + part * n_parameters() + parameter - first_parameter();
}

// Of the linear map, from one part of the rows.
void Mlp::parameter_gradients(std::size_t index, int part, long begin, long end) {
    LayerState& layer = layers_[index];
    const Matrix below = input(index);
    const float* gradient = layer.gradient.data() + begin * layer.stride();
    const auto rows = static_cast<int>(end - begin);
    work_.kernels.product({below.data + begin * below.stride, 1, below.stride, gradient, layer.stride(), nullptr,
                           part_gradient(part, layer.parameters.weight), layer.stride(), layer.shape.n_in,
                           layer.columns(), rows, false});
    float* of_bias = part_gradient(part, layer.parameters.bias);
    if (takes_bias_away(layer))
        std::fill_n(of_bias, layer.columns(), 0.0f);
    else
        work_.kernels.column_sum(gradient, rows, layer.columns(), layer.stride(), of_bias);
}

}  // namespace vsae
