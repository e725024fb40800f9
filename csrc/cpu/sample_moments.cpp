#include "cpu/sample_moments.h"

#include <algorithm>
#include <utility>

#include "core/importance_impute.h"
#include "cpu/parallel_rows.h"

namespace vsae {

namespace {

constexpr int kSamplesPerBlock = 10;  // drawn at once; BLOCK in vsae_fast/ops/sample_moments.py
constexpr int kRowsPerTile = 96;      // decoded at once: their activations stay in the first-level cache

}  // namespace

MomentSampler::MomentSampler(Attributes attributes, int n_samples, int max_rows)
    : attributes_(std::move(attributes)),
      n_samples_(n_samples),
      max_rows_(max_rows),
      n_blocks_((n_samples + kSamplesPerBlock - 1) / kSamplesPerBlock),
      z_stride_(row_stride(whole_lines(attributes_.n_latent) + whole_lines(attributes_.count()))),
      column_stride_(row_stride(attributes_.n_columns())),
      attribute_stride_(row_stride(attributes_.count())),
      any_numerical_(std::count(attributes_.kind.begin(), attributes_.kind.end(), +kNumerical) > 0),
      any_categorical_(std::count(attributes_.kind.begin(), attributes_.kind.end(), +kCategorical) > 0),
      numerical_(AlignedBuffer::zeros(column_stride_)),
      total_(static_cast<long>(n_blocks_) * max_rows * column_stride_),
      square_(static_cast<long>(n_blocks_) * max_rows * column_stride_) {
    for (int a = 0; a < attributes_.count(); ++a)
        if (attributes_.kind[a] == kNumerical)
            std::fill(numerical_.data() + attributes_.start[a], numerical_.data() + attributes_.start[a + 1], 1.0f);
}

void MomentSampler::run(SharedWork& work, const FoldedMlp& mask_decoder, const FoldedMlp& data_decoder,
                        const Rows& rows, Draws& draws, float* moment, float* variance) {
    const long max_rows = static_cast<long>(kSamplesPerBlock) * max_rows_;
    const int column_noise = whole_lines(attributes_.n_columns());
    const int widest = std::max(mask_decoder.scratch_stride(), data_decoder.scratch_stride());
    while (static_cast<int>(scratch_.size()) < work.n_threads())
        scratch_.push_back(
            {AlignedBuffer(max_rows * whole_lines(attributes_.n_latent)), AlignedBuffer::zeros(max_rows * z_stride_),
             AlignedBuffer(static_cast<long>(kRowsPerTile) * attribute_stride_),
             AlignedBuffer(static_cast<long>(kRowsPerTile) * widest),
             AlignedBuffer(static_cast<long>(kRowsPerTile) * widest), AlignedBuffer(max_rows * column_stride_),
             AlignedBuffer(any_numerical_ ? max_rows * column_noise : 0),
             AlignedBuffer(any_categorical_ ? max_rows * column_noise : 0)});
    const auto per_block = static_cast<std::uint64_t>(1 + any_numerical_ + any_categorical_);
    RowTasks tasks(n_blocks_, 1);
    work.run([&](int part) {
        for (long block, end; tasks.next(&block, &end);)
            sample_block(work.kernels, mask_decoder, data_decoder, rows,
                         {draws.seed, draws.next + static_cast<std::uint64_t>(block) * per_block},
                         static_cast<int>(block), scratch_[static_cast<std::size_t>(part)]);
    });
    draws.next += static_cast<std::uint64_t>(n_blocks_) * per_block;

    const long moments = static_cast<long>(rows.n) * column_stride_;
    const auto count = static_cast<float>(n_samples_);
    for (long r = 0; r < rows.n; ++r)
        for (long at = r * column_stride_; at < r * column_stride_ + attributes_.n_columns(); ++at) {
            float sum = 0, sum_of_squares = 0;
            for (int b = 0; b < n_blocks_; ++b) {
                sum += total_.data()[b * moments + at];
                sum_of_squares += square_.data()[b * moments + at];
            }
            moment[at] = sum / count;
            variance[at] = std::max(sum_of_squares / count - moment[at] * moment[at], 0.0f);
        }
}

void MomentSampler::sample_block(const TrainingKernels& kernels, const FoldedMlp& mask_decoder,
                                 const FoldedMlp& data_decoder, const Rows& rows, Draws draws, int block,
                                 Scratch& scratch) {
    auto& [noise, z, logits, even, odd, output, normal, uniform] = scratch;
    const int n = rows.n, n_latent = attributes_.n_latent, column_noise = whole_lines(attributes_.n_columns());
    const int count = std::min(kSamplesPerBlock, n_samples_ - block * kSamplesPerBlock);
    const int block_rows = count * n;
    const int latent_noise = whole_lines(n_latent);
    kernels.fill_normal(draws.seed, draws.next++, noise.data(), static_cast<long>(block_rows) * latent_noise);
    kernels.draw_latents({count, n, n_latent, row_stride(n_latent), latent_noise, z_stride_, rows.mean,
                          rows.log_variance, noise.data(), z.data()});
    for (int row = 0; row < block_rows; row += kRowsPerTile) {
        const int tile = std::min(kRowsPerTile, block_rows - row);
        float* input = z.data() + static_cast<long>(row) * z_stride_;
        mask_decoder.run({input, z_stride_}, tile, even.data(), odd.data(), logits.data());
        kernels.sigmoid(logits.data(), tile, attributes_.count(), attribute_stride_, input + n_latent, z_stride_);
        data_decoder.run({input, z_stride_}, tile, even.data(), odd.data(),
                         output.data() + static_cast<long>(row) * column_stride_, rows.context, n, row);
    }
    const long floats = static_cast<long>(block_rows) * column_noise;
    if (any_numerical_) kernels.fill_normal(draws.seed, draws.next++, normal.data(), floats);
    if (any_categorical_) kernels.fill_uniform(draws.seed, draws.next++, uniform.data(), floats);
    const long moments = static_cast<long>(n) * column_stride_;
    kernels.sample_moments({count, n, attributes_.count(), attributes_.n_columns(), attributes_.start.data(),
                            attributes_.kind.data(), rows.log_scale, numerical_.data(), output.data(),
                            any_numerical_ ? normal.data() : nullptr, any_categorical_ ? uniform.data() : nullptr,
                            column_stride_, column_noise, total_.data() + block * moments,
                            square_.data() + block * moments});
}

}  // namespace vsae
