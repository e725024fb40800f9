// Phase 2: what the current model expects of x_u, in evaluation mode, and the pass that scores them.
#include <algorithm>
#include <optional>

#include "cpu/folded_mlp.h"
#include "cpu/network.h"

namespace vsae {

// Writes target (observed values, means of the expected ones) and variance, and runs the second pass up to its outputs:
// nothing before the likelihood asks for the samples, so that one thread may run it while others sample.
void Network::sample_unobserved_and_forward(int n_samples, int n) {
    std::optional<FoldedMlp> mask_decoder, data_decoder;
    encode(mask_.data(), draws_, 0, n, false, [&] {
        mask_decoder.emplace(work_.kernels, store, *mask_decoder_, shape_.negative_slope);
        data_decoder.emplace(work_.kernels, store, *data_decoder_, shape_.negative_slope);
    });
    const Matrix context = project_context(n);
    if (shape_.skip)
        for (long r = 0; r < n; ++r)
            for (int c = 0; c < shape_.data_hidden[0]; ++c)
                context.data[r * context.stride + c] *= data_decoder->factors()[static_cast<std::size_t>(c)];
    if (!sampler_)
        sampler_ = std::make_unique<MomentSampler>(
            work_.kernels, Attributes{shape_.attribute_start, shape_.attribute_kind, n_latent_},
            data_decoder->n_hidden(), objective_.n_unobserved_samples, max_rows_);
    sampler_->prepare(*mask_decoder, *data_decoder,
                      {n, mean_.data(), log_variance_.data(), shape_.skip ? &context : nullptr, log_scale_.data()},
                      draws_, work_.n_threads());
    work_.tasks(1 + sampler_->n_tasks(), [&](int task, int thread) {
        if (task == 0)
            forward(n_samples, n);
        else
            sampler_->run_task(task - 1, thread);
    });
    sampler_->finish(work_, target_.data(), variance_.data());
    for (long r = 0; r < n; ++r)
        for (int a = 0; a < n_attributes_; ++a) {
            const bool observed = mask_.data()[r * attribute_stride_ + a] > 0;
            for (int c = shape_.attribute_start[a]; c < shape_.attribute_start[a + 1]; ++c) {
                float& target = target_.data()[r * column_stride_ + c];
                float& variance = variance_.data()[r * column_stride_ + c];
                target = observed ? x_.data()[r * column_stride_ + c] : std::clamp(target, -kTargetLimit, kTargetLimit);
                variance = observed ? 0.0f : std::min(variance, kTargetLimit * kTargetLimit);
            }
        }
}

}  // namespace vsae
