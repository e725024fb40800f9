// Phase 2: what the current model expects of x_u, in evaluation mode, and the pass that scores them.
#include <algorithm>
#include <optional>

#include "cpu/folded_mlp.h"
#include "cpu/network.h"

namespace vsae {

// Both passes through the encoders, network by network: the second one and the way back find in a core's cache what the
// first has brought there. `between` is a task beside them.
void Network::encode_twice(Draws& first, int n_samples, int n, const std::function<void()>& between) {
    if (expected_own_.empty()) {
        expected_own_ = make_proposals();
        expected_together_ = AlignedBuffer(static_cast<long>(max_rows_) * head_->output().stride);
    }
    const Draws of_latents = skip_fill(draws_);
    work_.tasks(n_attributes_ + 3, [&](int task, int) {
        if (task == 0) {
            encode_together(mask_.data(), first, n, false);
            std::copy_n(head_->output().data, static_cast<long>(n) * head_->output().stride, expected_together_.data());
            project_context(n);
            encode_together(visible_.data(), draws_, n, true);
        } else if (task == 1) {
            between();
        } else if (task == 2) {
            draw_latent_noise(of_latents, n_samples, n);
        } else {
            encode_attribute(task - 3, mask_.data(), n, false, expected_own_);
            encode_attribute(task - 3, visible_.data(), n, true, own_);
        }
    });
    draws_.next = of_latents.next + 1;
}

// Writes target (observed values, means of the expected ones) and variance, and runs the second pass up to its outputs:
// nothing before the likelihood asks for the samples, so that one thread may run it while others sample.
void Network::sample_unobserved_and_forward(int n_samples, int n) {
    Draws first = draws_;
    Draws sampled = skip_fill(draws_);
    draws_.next = sampled.next + static_cast<std::uint64_t>(MomentSampler::n_streams(objective_.n_unobserved_samples));
    std::optional<FoldedMlp> mask_decoder, data_decoder;
    encode_twice(first, n_samples, n, [&] {
        mask_decoder.emplace(work_.kernels, store, *mask_decoder_, shape_.negative_slope);
        data_decoder.emplace(work_.kernels, store, *data_decoder_, shape_.negative_slope);
    });
    const Matrix context{context_.data(), row_stride(shape_.data_hidden[0])};
    if (shape_.skip)
        for (long r = 0; r < n; ++r)
            for (int c = 0; c < shape_.data_hidden[0]; ++c)
                context.data[r * context.stride + c] *= data_decoder->factors()[static_cast<std::size_t>(c)];
    if (!sampler_)
        sampler_ = std::make_unique<MomentSampler>(
            work_.kernels, Attributes{shape_.attribute_start, shape_.attribute_kind, n_latent_},
            data_decoder->n_hidden(), objective_.n_unobserved_samples, max_rows_);
    select_proposals(mask_.data(), 0, n, {expected_together_.data(), head_->output().stride}, expected_own_);
    sampler_->prepare(*mask_decoder, *data_decoder,
                      {n, mean_.data(), log_variance_.data(), shape_.skip ? &context : nullptr, log_scale_.data()},
                      sampled, work_.n_threads());
    select_proposals(visible_.data(), 0, n, head_->output(), own_);
    work_.tasks(1 + sampler_->n_tasks(), [&](int task, int thread) {
        if (task == 0) {
            draw_latents(n_samples, n, 0, n);
            decode(n_samples, n, true);
        } else {
            sampler_->run_task(task - 1, thread);
        }
    });
    sampler_->finish(work_, target_.data(), variance_.data(), [&](int first_row, int last_row) {
        for (long r = first_row; r < last_row; ++r)
            for (int a = 0; a < n_attributes_; ++a) {
                const bool observed = mask_.data()[r * attribute_stride_ + a] > 0;
                for (int c = shape_.attribute_start[a]; c < shape_.attribute_start[a + 1]; ++c) {
                    float& target = target_.data()[r * column_stride_ + c];
                    float& variance = variance_.data()[r * column_stride_ + c];
                    target =
                        observed ? x_.data()[r * column_stride_ + c] : std::clamp(target, -kTargetLimit, kTargetLimit);
                    variance = observed ? 0.0f : std::min(variance, kTargetLimit * kTargetLimit);
                }
            }
    });
}

}  // namespace vsae
