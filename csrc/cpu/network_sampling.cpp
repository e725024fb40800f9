// Phase 2: samples of x_u from the current model, in evaluation mode.
#include <algorithm>

#include "core/importance_impute.h"
#include "cpu/folded_mlp.h"
#include "cpu/network.h"
#include "cpu/parallel_rows.h"

namespace vsae {

namespace {

constexpr int kSamplesPerBlock = 10;  // drawn at once; BLOCK in vsae_fast/ops/sample_moments.py
constexpr int kRowsPerTile = 96;      // decoded at once: their activations stay in the first-level cache

}  // namespace

// Writes target (observed values, means of the sampled ones) and variance.
void Network::sample_unobserved(Draws& draws, int n) {
    encode(mask_.data(), draws, n, false);
    const float slope = shape_.negative_slope;
    const FoldedMlp mask_decoder(work_.kernels, store, *mask_decoder_, slope);
    const FoldedMlp data_decoder(work_.kernels, store, *data_decoder_, slope);
    const Matrix context = project_context(n);
    if (shape_.skip)
        for (long r = 0; r < n; ++r)
            for (int c = 0; c < shape_.data_hidden[0]; ++c)
                context.data[r * context.stride + c] *= data_decoder.factors()[static_cast<std::size_t>(c)];

    const bool any_numerical = std::count(shape_.attribute_kind.begin(), shape_.attribute_kind.end(), +kNumerical) > 0;
    const bool any_categorical =
        std::count(shape_.attribute_kind.begin(), shape_.attribute_kind.end(), +kCategorical) > 0;
    const int n_total = objective_.n_unobserved_samples;
    const int n_blocks = (n_total + kSamplesPerBlock - 1) / kSamplesPerBlock;
    const int per_block = 1 + any_numerical + any_categorical;
    const std::uint64_t first = draws.next;
    draws.next += static_cast<std::uint64_t>(n_blocks) * static_cast<std::uint64_t>(per_block);

    const long moments = static_cast<long>(n) * column_stride_;
    const int widest = std::max(mask_decoder.scratch_stride(), data_decoder.scratch_stride());
    const long max_rows = static_cast<long>(kSamplesPerBlock) * max_rows_;
    while (static_cast<int>(sampling_scratch_.size()) < work_.n_threads())
        sampling_scratch_.push_back(
            {AlignedBuffer(max_rows * latent_noise_), AlignedBuffer::zeros(max_rows * z_stride_),
             AlignedBuffer(static_cast<long>(kRowsPerTile) * attribute_stride_),
             AlignedBuffer(static_cast<long>(kRowsPerTile) * widest),
             AlignedBuffer(static_cast<long>(kRowsPerTile) * widest), AlignedBuffer(max_rows * column_stride_),
             AlignedBuffer(any_numerical ? max_rows * column_noise_ : 0),
             AlignedBuffer(any_categorical ? max_rows * column_noise_ : 0)});
    if (moments_.empty())
        for (int i = 0; i < 2; ++i) moments_.emplace_back(static_cast<long>(n_blocks) * max_rows_ * column_stride_);
    AlignedBuffer &total = moments_[0], &square = moments_[1];
    RowTasks tasks(n_blocks, 1);
    work_.run([&](int part) {
        auto& [noise, z, logits, even, odd, output, normal, uniform] =
            sampling_scratch_[static_cast<std::size_t>(part)];
        for (long block, end; tasks.next(&block, &end);) {
            const int count = std::min(kSamplesPerBlock, n_total - static_cast<int>(block) * kSamplesPerBlock);
            std::uint64_t number = first + static_cast<std::uint64_t>(block) * static_cast<std::uint64_t>(per_block);
            const int block_rows = count * n;
            work_.kernels.fill_normal(draws.seed, number++, noise.data(),
                                      static_cast<long>(block_rows) * latent_noise_);
            work_.kernels.draw_latents({count, n, n_latent_, latent_stride_, latent_noise_, z_stride_, mean_.data(),
                                        log_variance_.data(), noise.data(), z.data()});
            for (int row = 0; row < block_rows; row += kRowsPerTile) {
                const int rows = std::min(kRowsPerTile, block_rows - row);
                float* input = z.data() + static_cast<long>(row) * z_stride_;
                mask_decoder.run({input, z_stride_}, rows, even.data(), odd.data(), logits.data());
                work_.kernels.sigmoid(logits.data(), rows, n_attributes_, attribute_stride_, input + n_latent_,
                                      z_stride_);
                data_decoder.run({input, z_stride_}, rows, even.data(), odd.data(),
                                 output.data() + static_cast<long>(row) * column_stride_,
                                 shape_.skip ? &context : nullptr, n, row);
            }
            const long floats = static_cast<long>(block_rows) * column_noise_;
            if (any_numerical) work_.kernels.fill_normal(draws.seed, number++, normal.data(), floats);
            if (any_categorical) work_.kernels.fill_uniform(draws.seed, number++, uniform.data(), floats);
            work_.kernels.sample_moments({count, n, n_attributes_, n_columns_, shape_.attribute_start.data(),
                                          shape_.attribute_kind.data(), log_scale_.data(), numerical_.data(),
                                          output.data(), any_numerical ? normal.data() : nullptr,
                                          any_categorical ? uniform.data() : nullptr, column_stride_, column_noise_,
                                          total.data() + block * moments, square.data() + block * moments});
        }
    });
    for (long r = 0; r < n; ++r)
        for (int a = 0; a < n_attributes_; ++a)
            for (int c = shape_.attribute_start[a]; c < shape_.attribute_start[a + 1]; ++c) {
                const long at = r * column_stride_ + c;
                float sum = 0, sum_of_squares = 0;
                for (int b = 0; b < n_blocks; ++b) {
                    sum += total.data()[b * moments + at];
                    sum_of_squares += square.data()[b * moments + at];
                }
                const bool observed = mask_.data()[r * attribute_stride_ + a] > 0;
                const float moment = sum / static_cast<float>(n_total);
                const float variance = sum_of_squares / static_cast<float>(n_total) - moment * moment;
                target_.data()[at] = observed ? x_.data()[at] : moment;
                variance_.data()[at] = observed ? 0.0f : std::max(variance, 0.0f);
            }
}

}  // namespace vsae
