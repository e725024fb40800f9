// The way back, and the optimiser.
#include <algorithm>
#include <cmath>

#include "cpu/network.h"

namespace vsae {

// factor_ holds the derivative of the loss with respect to each log-weight; mean_gradient_ and log_variance_gradient_
// hold what does not pass through z.
void Network::backward(int n_samples, int n) {
    const int rows = n_samples * n;
    const bool with_prior = objective_.n_samples > 0;
    const float* factor = factor_.data();
    const Matrix output = data_decoder_->output_gradient(), logits = mask_decoder_->output_gradient();
    work_.kernels.scale_rows(output.data, rows, whole_lines(n_columns_), output.stride, factor);
    work_.kernels.scale_rows(log_scale_gradient_.data(), rows, whole_lines(n_columns_), column_stride_, factor);
    work_.kernels.scale_rows(logits.data, rows, whole_lines(n_attributes_), logits.stride, factor);

    AlignedBuffer column_sum(column_stride_);
    work_.kernels.column_sum(log_scale_gradient_.data(), rows, whole_lines(n_columns_), column_stride_,
                             column_sum.data());
    const float* raw = store.value(raw_scale_);
    for (int a = 0; a < n_attributes_; ++a) {
        float sum = 0;
        for (int c = shape_.attribute_start[a]; c < shape_.attribute_start[a + 1]; ++c) sum += column_sum.data()[c];
        store.gradient(raw_scale_)[a] = sum * std::exp(raw[a]) / (std::exp(raw[a]) + shape_.min_scale);
    }

    data_decoder_->backward({z_gradient_.data(), z_stride_});
    const Matrix pi{z_.data() + n_latent_, z_stride_};
    for (long r = 0; r < rows; ++r)
        for (int a = 0; a < n_attributes_; ++a) {
            const float p = pi.data[r * pi.stride + a];
            logits.data[r * logits.stride + a] += z_gradient_.data()[r * z_stride_ + n_latent_ + a] * p * (1 - p);
        }
    mask_decoder_->backward({z_gradient_.data(), z_stride_}, true);

    for (long k = 0; k < n_samples; ++k)
        for (long r = 0; r < n; ++r) {
            const long row = k * n + r;
            for (int l = 0; l < n_latent_; ++l) {
                float g = z_gradient_.data()[row * z_stride_ + l];
                const long at = r * latent_stride_ + l;
                if (with_prior) {
                    g -= factor[row] * z_.data()[row * z_stride_ + l];
                    log_variance_gradient_.data()[at] += 0.5f * factor[row];
                }
                mean_gradient_.data()[at] += g;
                log_variance_gradient_.data()[at] +=
                    0.5f * g * (z_.data()[row * z_stride_ + l] - mean_.data()[at]);  // scale noise = z - mean
            }
        }

    const Matrix shared = head_->output_gradient();
    const int latent = shape_.latent_per_attribute;
    const float* visible = visible_.data();
    for (int a = 0; a < n_attributes_; ++a) {
        const Matrix own = attributive_[a].output_gradient(), value = attributive_[a].output();
        const Matrix head = head_->output();
        for (long r = 0; r < n; ++r) {
            const bool seen = visible[r * attribute_stride_ + a] > 0;
            for (int l = 0; l < latent; ++l) {
                const int at = a * latent + l;
                const float raw_log_variance =
                    seen ? value.data[r * value.stride + latent + l] : head.data[r * head.stride + n_latent_ + at];
                const float mean = mean_gradient_.data()[r * latent_stride_ + at];
                const bool clamped = raw_log_variance < -kLogVarianceLimit || raw_log_variance > kLogVarianceLimit;
                const float log_variance = clamped ? 0.0f : log_variance_gradient_.data()[r * latent_stride_ + at];
                own.data[r * own.stride + l] = seen ? mean : 0.0f;
                own.data[r * own.stride + latent + l] = seen ? log_variance : 0.0f;
                shared.data[r * shared.stride + at] = seen ? 0.0f : mean;
                shared.data[r * shared.stride + n_latent_ + at] = seen ? 0.0f : log_variance;
            }
            for (int c = 2 * latent; c < whole_lines(2 * latent); ++c) own.data[r * own.stride + c] = 0.0f;
        }
        attributive_[a].backward({nullptr, 0});
    }
    for (long r = 0; r < n; ++r)
        for (int c = 2 * n_latent_; c < whole_lines(2 * n_latent_); ++c) shared.data[r * shared.stride + c] = 0.0f;

    const Matrix hidden = collective_->output_gradient();
    head_->backward(hidden);
    if (shape_.skip) {
        const Matrix above = data_decoder_->first_gradient();
        const int width = shape_.data_hidden[0], stride = row_stride(width);
        float* context = context_gradient_.data();
        for (long r = 0; r < n; ++r)
            for (int c = 0; c < whole_lines(width); ++c) {
                float sum = 0;
                for (long k = 0; k < n_samples; ++k) sum += above.data[(k * n + r) * above.stride + c];
                context[r * stride + c] = sum;
            }
        const int inner = collective_->n_out(), inner_stride = row_stride(inner);
        const Matrix out = collective_->output();
        work_.product({out.data, 1, out.stride, context, stride, nullptr, store.gradient(context_weight_), stride,
                       inner, whole_lines(width), n, false});
        const float* weight = store.value(context_weight_);
        for (int o = 0; o < width; ++o)
            for (int i = 0; i < inner; ++i)
                hidden_gradient_.data()[static_cast<long>(o) * inner_stride + i] =
                    weight[static_cast<long>(i) * stride + o];
        work_.product({context, stride, 1, hidden_gradient_.data(), inner_stride, nullptr, hidden.data, hidden.stride,
                       n, whole_lines(inner), width, true});
    }
    collective_->backward({nullptr, 0});
}

void Network::update(const OptimiserSettings& settings) {
    ++steps_;
    float factor = 1;
    if (settings.clip_norm > 0) {
        const double norm = std::sqrt(work_.kernels.squared_norm(store.gradient(0), store.size()));
        factor = static_cast<float>(std::min(1.0, settings.clip_norm / (norm + 1e-6)));
    }
    work_.kernels.adam({store.size(), store.value(0), store.gradient(0), store.first(), store.second(), factor,
                        settings.learning_rate, settings.weight_decay,
                        static_cast<float>(1 - std::pow(0.9, static_cast<double>(steps_))),
                        static_cast<float>(1 - std::pow(0.999, static_cast<double>(steps_)))});
}

}  // namespace vsae
