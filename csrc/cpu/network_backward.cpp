// The way back, and the optimiser.
#include <algorithm>
#include <cmath>

#include "cpu/network.h"

namespace vsae {

// Whether encode() cut a log-variance off, which leaves it without a gradient.
static bool clamped(float log_variance) {
    return log_variance < -kLogVarianceLimit || log_variance > kLogVarianceLimit;
}

// factor_ holds the derivative of the loss with respect to each log-weight; where there is a divergence,
// mean_gradient_ and log_variance_gradient_ hold its own.
void Network::backward(int n_samples, int n, const OptimiserSettings& settings) {
    backward_decoders(n_samples, n);
    backward_latents(n_samples, n);
    backward_encoders_and_update(n_samples, n, settings);
}

void Network::backward_decoders(int n_samples, int n) {
    work_.kernels.sum_parts(log_scale_totals_.data(), column_stride_, n_parts_, column_sum_.data(),
                            whole_lines(n_columns_));
    const float* raw = store.value(raw_scale_);
    for (int a = 0; a < n_attributes_; ++a) {
        float sum = 0;
        for (int c = shape_.attribute_start[a]; c < shape_.attribute_start[a + 1]; ++c) sum += column_sum_.data()[c];
        store.gradient(raw_scale_)[a] = sum * std::exp(raw[a]) / (std::exp(raw[a]) + shape_.min_scale);
    }

    data_decoder_->backward({z_gradient_.data(), z_stride_});
    if (mask_decoder_) backward_probabilities(n_samples, n);
}

// From the gradients of the proposals on; those of the decoders stand in the store.
void Network::backward_encoders_and_update(int n_samples, int n, const OptimiserSettings& settings) {
    const bool shared_out = collective_ && collective_->goes_in_parts(n);
    if (shared_out) backward_collective(n_samples, n);
    AdamStep rule = adam_rule(settings);
    const auto update = [&](int task) {
        if (task == 0)
            update_collective(rule);
        else if (task == 1)
            update_decoders(rule);
        else
            attributive_[static_cast<std::size_t>(task - 2)].update(rule);
    };
    // Every network is updated by the thread that has just had its gradient, unless all gradients together come first.
    const bool at_once = settings.clip_norm <= 0;
    work_.tasks(n_encoders() + 2, [&](int task, int) {
        if (task == 0 && collective_ && !shared_out) backward_collective(n_samples, n);
        if (task > 1) shape_.experts ? backward_expert(task - 2, n) : backward_attribute(task - 2, n);
        if (at_once) update(task);
    });
    if (at_once) return;
    const double norm = std::sqrt(work_.kernels.squared_norm(store.gradient(0), store.size()));
    rule.gradient_factor = static_cast<float>(std::min(1.0, settings.clip_norm / (norm + 1e-6)));
    work_.tasks(n_encoders() + 2, [&](int task, int) { update(task); });
}

// Through the mask's probabilities, an input of the data decoder, and the mask decoder back to z.
void Network::backward_probabilities(int n_samples, int n) {
    const Matrix logits = mask_decoder_->output_gradient();
    parts_of_rows(n_samples, n, [&](int, int first, int last) {
        const long sample = static_cast<long>(first) * n_samples, pi = sample * z_stride_ + n_latent_;
        work_.kernels.sigmoid_backward(z_.data() + pi, z_gradient_.data() + pi, (last - first) * n_samples,
                                       n_attributes_, z_stride_, logits.data + sample * logits.stride, logits.stride);
    });
    mask_decoder_->backward({z_gradient_.data(), z_stride_}, true);
}

// From the gradient of z to those of mean and log-variance.
void Network::backward_latents(int n_samples, int n) {
    const bool with_prior = objective_.n_samples > 0, with_divergence = !with_prior && !shape_.deterministic;
    parts_of_rows(n_samples, n, [&](int, int first, int last) {
        work_.kernels.latent_gradient({n_samples, first, last, n_latent_, latent_stride_, z_stride_, mean_.data(),
                                       z_.data(), z_gradient_.data(), with_prior ? factor_.data() : nullptr,
                                       with_divergence, mean_gradient_.data(), log_variance_gradient_.data()});
    });
}

void Network::backward_attribute(int attribute, int n) {
    const int latent = shape_.latent_per_attribute;
    const Matrix gradient = attributive_[attribute].output_gradient(), value = attributive_[attribute].output();
    for (long r = 0; r < n; ++r) {
        const bool seen = visible_.data()[r * attribute_stride_ + attribute] > 0;
        const long at = r * latent_stride_ + attribute * latent;
        float* of_mean = gradient.data + r * gradient.stride;
        for (int l = 0; l < latent; ++l) {
            const bool kept = seen && !clamped(value.data[r * value.stride + latent + l]);
            of_mean[l] = seen ? mean_gradient_.data()[at + l] : 0.0f;
            of_mean[latent + l] = kept ? log_variance_gradient_.data()[at + l] : 0.0f;
        }
        for (int c = 2 * latent; c < whole_lines(2 * latent); ++c) of_mean[c] = 0.0f;
    }
    attributive_[attribute].backward({nullptr, 0});
}

void Network::backward_collective(int n_samples, int n) {
    const int latent = shape_.latent_per_attribute;
    const Matrix gradient = head_->output_gradient(), value = head_->output();
    work_.parts(n, SharedWork::n_parts(n), collective_->goes_in_parts(n), [&](int, int first, int last) {
        for (long r = first; r < last; ++r) {
            float* of_mean = gradient.data + r * gradient.stride;
            for (int a = 0; a < n_attributes_; ++a) {
                const bool seen = n_encoders() > 0 && visible_.data()[r * attribute_stride_ + a] > 0;
                for (int at = a * latent; at < (a + 1) * latent; ++at) {
                    const bool kept = !seen && !clamped(value.data[r * value.stride + n_latent_ + at]);
                    of_mean[at] = seen ? 0.0f : mean_gradient_.data()[r * latent_stride_ + at];
                    of_mean[n_latent_ + at] = kept ? log_variance_gradient_.data()[r * latent_stride_ + at] : 0.0f;
                }
            }
            for (int c = 2 * n_latent_; c < whole_lines(2 * n_latent_); ++c) of_mean[c] = 0.0f;
        }
    });
    head_->backward(collective_->output_gradient());
    if (has_context()) backward_context(n_samples, n);
    collective_->backward({nullptr, 0});
}

// The gradient of the context's weight and, where it comes from the collective network, of that one's output.
void Network::backward_context(int n_samples, int n) {
    const Matrix above = data_decoder_->first_gradient();
    const int width = shape_.data_hidden[0], stride = row_stride(width);
    float* context = context_gradient_.data();
    parts_of_rows(n_samples, n, [&](int, int first, int last) {
        for (long r = first; r < last; ++r)
            work_.kernels.sum_parts(above.data + r * n_samples * above.stride, above.stride, n_samples,
                                    context + r * stride, whole_lines(width));
    });
    const int inner = n_context(), inner_stride = row_stride(inner);
    const Matrix source = context_source();
    work_.product({source.data, 1, source.stride, context, stride, nullptr, store.gradient(context_weight_), stride,
                   inner, whole_lines(width), n, false});
    if (!shape_.skip) return;
    const Matrix hidden = collective_->output_gradient();
    work_.kernels.transpose(store.value(context_weight_), stride, inner, width, hidden_gradient_.data(), inner_stride);
    work_.product({context, stride, 1, hidden_gradient_.data(), inner_stride, nullptr, hidden.data, hidden.stride, n,
                   whole_lines(inner), width, true});
}

AdamStep Network::adam_rule(const OptimiserSettings& settings) {
    ++steps_;
    AdamStep rule{};
    rule.gradient_factor = 1;
    rule.learning_rate = settings.learning_rate;
    rule.weight_decay = settings.weight_decay;
    rule.first_correction = static_cast<float>(1 - std::pow(0.9, static_cast<double>(steps_)));
    rule.second_correction = static_cast<float>(1 - std::pow(0.999, static_cast<double>(steps_)));
    return rule;
}

void Network::update_decoders(const AdamStep& rule) {
    if (mask_decoder_) mask_decoder_->update(rule);
    data_decoder_->update(rule);
    store.update(work_.kernels, rule, raw_scale_, attribute_stride_);
}

void Network::update_collective(const AdamStep& rule) {
    if (!collective_) return;
    collective_->update(rule);
    head_->update(rule);
    if (has_context())
        store.update(work_.kernels, rule, context_weight_,
                     static_cast<long>(n_context()) * row_stride(shape_.data_hidden[0]));
}

}  // namespace vsae
