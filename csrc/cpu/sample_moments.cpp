#include "cpu/sample_moments.h"

#include <algorithm>
#include <utility>

#include "core/importance_impute.h"

namespace vsae {

namespace {

constexpr int kSamplesPerBlock = 10;  // drawn at once; BLOCK in vsae_fast/ops/sample_moments.py
constexpr int kRowsPerTile = 72;      // decoded at once: their activations stay in the first-level cache

}  // namespace

MomentSampler::MomentSampler(Attributes attributes, int n_samples, int max_rows)
    : attributes_(std::move(attributes)),
      n_samples_(n_samples),
      max_rows_(max_rows),
      n_blocks_((n_samples + kSamplesPerBlock - 1) / kSamplesPerBlock),
      latent_stride_(row_stride(attributes_.n_latent)),
      z_stride_(row_stride(whole_lines(attributes_.n_latent) + whole_lines(attributes_.count()))),
      column_stride_(row_stride(attributes_.n_columns())),
      attribute_stride_(row_stride(attributes_.count())),
      context_stride_(0),
      any_numerical_(std::count(attributes_.kind.begin(), attributes_.kind.end(), +kNumerical) > 0),
      any_categorical_(std::count(attributes_.kind.begin(), attributes_.kind.end(), +kCategorical) > 0),
      numerical_(AlignedBuffer::zeros(column_stride_)),
      total_(static_cast<long>(n_blocks_) * max_rows * column_stride_),
      square_(static_cast<long>(n_blocks_) * max_rows * column_stride_),
      mean_(static_cast<long>(max_rows) * latent_stride_),
      log_variance_(static_cast<long>(max_rows) * latent_stride_),
      log_scale_(AlignedBuffer::zeros(column_stride_)),
      normal_(any_numerical_ ? 3L * max_rows * whole_lines(attributes_.n_columns()) : 0),
      gamma_(any_numerical_ ? static_cast<long>(max_rows) * whole_lines(attributes_.n_columns()) : 0) {
    for (int a = 0; a < attributes_.count(); ++a)
        if (attributes_.kind[a] == kNumerical)
            std::fill(numerical_.data() + attributes_.start[a], numerical_.data() + attributes_.start[a + 1], 1.0f);
}

void MomentSampler::prepare(const FoldedMlp& mask_decoder, const FoldedMlp& data_decoder, const Rows& rows,
                            Draws& draws, int n_threads) {
    mask_decoder_ = &mask_decoder;
    data_decoder_ = &data_decoder;
    n_rows_ = rows.n;
    std::copy_n(rows.mean, static_cast<long>(rows.n) * latent_stride_, mean_.data());
    std::copy_n(rows.log_variance, static_cast<long>(rows.n) * latent_stride_, log_variance_.data());
    std::copy_n(rows.log_scale, whole_lines(attributes_.n_columns()), log_scale_.data());
    if (rows.context) {
        context_stride_ = rows.context->stride;
        if (context_.empty()) context_.emplace_back(static_cast<long>(max_rows_) * context_stride_);
        std::copy_n(rows.context->data, static_cast<long>(rows.n) * context_stride_, context_[0].data());
    }
    const long max_rows = static_cast<long>(kSamplesPerBlock) * max_rows_;
    const long widest = std::max(mask_decoder.scratch_stride(), data_decoder.scratch_stride());
    while (static_cast<int>(scratch_.size()) < n_threads)
        scratch_.push_back(
            {AlignedBuffer(max_rows * attributes_.n_latent + 2L * kLine), AlignedBuffer::zeros(max_rows * z_stride_),
             AlignedBuffer(static_cast<long>(kRowsPerTile) * attribute_stride_), AlignedBuffer(kRowsPerTile * widest),
             AlignedBuffer(kRowsPerTile * widest), AlignedBuffer(max_rows * column_stride_),
             AlignedBuffer(any_categorical_ ? max_rows * whole_lines(attributes_.n_columns()) : 0)});
    draws_ = draws;
    draws.next += static_cast<std::uint64_t>(n_blocks_ * (1 + any_categorical_) + 2 * any_numerical_);
}

void MomentSampler::draw_gaussian_noise(const TrainingKernels& kernels) {
    const long floats = static_cast<long>(n_rows_) * whole_lines(attributes_.n_columns());
    const std::uint64_t stream = draws_.next + static_cast<std::uint64_t>(n_blocks_ * (1 + any_categorical_));
    kernels.fill_normal(draws_.seed, stream, normal_.data(), 3 * floats);
    kernels.fill_gamma(draws_.seed, stream + 1, std::max(n_samples_ - 2, 0) / 2, gamma_.data(), floats);
}

void MomentSampler::run_task(const TrainingKernels& kernels, int task, int thread) {
    if (task == n_blocks_) return draw_gaussian_noise(kernels);
    auto& [noise, z, logits, even, odd, output, uniform] = scratch_[static_cast<std::size_t>(thread)];
    const int n = n_rows_, n_latent = attributes_.n_latent, column_noise = whole_lines(attributes_.n_columns());
    const int count = std::min(kSamplesPerBlock, n_samples_ - task * kSamplesPerBlock);
    const int block_rows = count * n;
    std::uint64_t stream = draws_.next + static_cast<std::uint64_t>(task * (1 + any_categorical_));
    // Latents of one sample follow those of the one before without padding: a quarter fewer numbers for twelve columns.
    const long noise_lines = (static_cast<long>(block_rows) * n_latent + kLine - 1) / kLine;
    kernels.fill_normal(draws_.seed, stream++, noise.data(), noise_lines * kLine);
    kernels.draw_latents({count, n, 0, n, n_latent, latent_stride_, n_latent, z_stride_, mean_.data(),
                          log_variance_.data(), noise.data(), z.data()});
    const Matrix context{context_.empty() ? nullptr : context_[0].data(), context_stride_};
    for (int row = 0; row < block_rows; row += kRowsPerTile) {
        const int tile = std::min(kRowsPerTile, block_rows - row);
        float* input = z.data() + static_cast<long>(row) * z_stride_;
        mask_decoder_->run({input, z_stride_}, tile, even.data(), odd.data(), logits.data());
        kernels.sigmoid(logits.data(), tile, attributes_.count(), attribute_stride_, input + n_latent, z_stride_);
        data_decoder_->run({input, z_stride_}, tile, even.data(), odd.data(),
                           output.data() + static_cast<long>(row) * column_stride_, context.data ? &context : nullptr,
                           n, row);
    }
    if (any_categorical_)
        kernels.fill_uniform(draws_.seed, stream++, uniform.data(), static_cast<long>(block_rows) * column_noise);
    const long moments = static_cast<long>(n) * column_stride_;
    kernels.sample_moments({count, n, attributes_.count(), attributes_.n_columns(), attributes_.start.data(),
                            attributes_.kind.data(), output.data(), any_categorical_ ? uniform.data() : nullptr,
                            column_stride_, column_noise, total_.data() + task * moments,
                            square_.data() + task * moments});
}

void MomentSampler::finish(const TrainingKernels& kernels, float* moment, float* variance) {
    const long moments = static_cast<long>(n_rows_) * column_stride_;
    const auto count = static_cast<float>(n_samples_);
    for (long r = 0; r < n_rows_; ++r)
        for (long at = r * column_stride_; at < r * column_stride_ + attributes_.n_columns(); ++at) {
            float sum = 0, sum_of_squares = 0;
            for (int b = 0; b < n_blocks_; ++b) {
                sum += total_.data()[b * moments + at];
                sum_of_squares += square_.data()[b * moments + at];
            }
            moment[at] = sum / count;
            variance[at] = std::max(sum_of_squares / count - moment[at] * moment[at], 0.0f);
        }
    if (!any_numerical_) return;
    kernels.gaussian_moments({n_samples_, n_rows_, attributes_.n_columns(), log_scale_.data(), numerical_.data(),
                              normal_.data(), gamma_.data(), column_stride_, whole_lines(attributes_.n_columns()),
                              moment, variance});
}

}  // namespace vsae
