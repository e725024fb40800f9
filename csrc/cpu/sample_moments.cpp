#include "cpu/sample_moments.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/importance_impute.h"

namespace vsae {

namespace {

constexpr int kSamplesPerBlock = 10;    // drawn at once; BLOCK in vsae_fast/ops/sample_moments.py
constexpr int kRowsPerTile = 72;        // decoded at once: their activations stay in the first-level cache
constexpr int kWorthSecondMoments = 2;  // columns of wide attributes for each hidden neuron

}  // namespace

MomentSampler::MomentSampler(Attributes attributes, int n_hidden, int n_samples, int max_rows)
    : attributes_(std::move(attributes)),
      n_hidden_(n_hidden),
      n_samples_(n_samples),
      max_rows_(max_rows),
      n_blocks_((n_samples + kSamplesPerBlock - 1) / kSamplesPerBlock),
      latent_stride_(row_stride(attributes_.n_latent)),
      z_stride_(row_stride(whole_lines(attributes_.n_latent) + whole_lines(attributes_.count()))),
      hidden_stride_(row_stride(n_hidden)),
      attribute_stride_(row_stride(attributes_.count())),
      start_{0},
      decoded_stride_(0),
      weight_(0),
      bias_(0),
      total_(0),
      square_(0),
      mean_(static_cast<long>(max_rows) * latent_stride_),
      log_variance_(static_cast<long>(max_rows) * latent_stride_),
      log_scale_(attributes_.n_columns()) {
    split(max_rows);
    decoded_stride_ = row_stride(start_.back());
    weight_ = AlignedBuffer::zeros(static_cast<long>(n_hidden) * decoded_stride_);
    bias_ = AlignedBuffer::zeros(decoded_stride_);
    total_ = AlignedBuffer(static_cast<long>(n_blocks_) * max_rows * decoded_stride_);
    square_ = AlignedBuffer(static_cast<long>(n_blocks_) * max_rows * decoded_stride_);
}

// Decides which attributes are decoded sample by sample: all but blocks of columns, where these have so many that their
// hidden vectors' second moments are cheaper.
void MomentSampler::split(int max_rows) {
    std::vector<ColumnRange> blocks;
    int n_wide = 0;
    const auto is_block = [&](int a) {
        return attributes_.kind[a] == kNumerical && attributes_.start[a + 1] - attributes_.start[a] > 1;
    };
    for (int a = 0; a < attributes_.count(); ++a)
        if (is_block(a)) {
            blocks.push_back({attributes_.start[a], attributes_.start[a + 1]});
            n_wide += blocks.back().end - blocks.back().begin;
        }
    const bool wide = n_wide >= kWorthSecondMoments * n_hidden_;
    for (int a = 0; a < attributes_.count(); ++a) {
        if (wide && is_block(a)) continue;
        decoded_.push_back(a);
        start_.push_back(start_.back() + attributes_.start[a + 1] - attributes_.start[a]);
        kind_.push_back(attributes_.kind[a]);
    }
    if (wide)
        wide_ =
            std::make_unique<BlockMoments>(std::move(blocks), attributes_.n_columns(), n_hidden_, n_samples_, max_rows);
}

bool MomentSampler::any_categorical() const {
    return std::find(kind_.begin(), kind_.end(), +kCategorical) != kind_.end();
}

void MomentSampler::prepare(const FoldedMlp& mask_decoder, const FoldedMlp& data_decoder, const Rows& rows,
                            Draws& draws, int n_threads) {
    mask_decoder_ = &mask_decoder;
    data_decoder_ = &data_decoder;
    n_rows_ = rows.n;
    std::copy_n(rows.mean, static_cast<long>(rows.n) * latent_stride_, mean_.data());
    std::copy_n(rows.log_variance, static_cast<long>(rows.n) * latent_stride_, log_variance_.data());
    std::copy_n(rows.log_scale, attributes_.n_columns(), log_scale_.data());
    if (rows.context) {
        context_stride_ = rows.context->stride;
        if (context_.empty()) context_.emplace_back(static_cast<long>(max_rows_) * context_stride_);
        std::copy_n(rows.context->data, static_cast<long>(rows.n) * context_stride_, context_[0].data());
    }
    const int output_stride = row_stride(attributes_.n_columns());
    for (std::size_t i = 0; i < decoded_.size(); ++i) {
        const int from = attributes_.start[decoded_[i]], width = start_[i + 1] - start_[i];
        std::copy_n(data_decoder.output_bias() + from, width, bias_.data() + start_[i]);
        for (long h = 0; h < n_hidden_; ++h)
            std::copy_n(data_decoder.output_weight() + h * output_stride + from, width,
                        weight_.data() + h * decoded_stride_ + start_[i]);
    }
    const long max_rows = static_cast<long>(kSamplesPerBlock) * max_rows_;
    const long widest = std::max(mask_decoder.scratch_stride(), data_decoder.scratch_stride());
    while (static_cast<int>(scratch_.size()) < n_threads)
        scratch_.push_back(
            {AlignedBuffer(max_rows * attributes_.n_latent + 2L * kLine), AlignedBuffer::zeros(max_rows * z_stride_),
             AlignedBuffer(static_cast<long>(kRowsPerTile) * attribute_stride_), AlignedBuffer(kRowsPerTile * widest),
             AlignedBuffer(kRowsPerTile * widest), AlignedBuffer(static_cast<long>(kRowsPerTile) * hidden_stride_),
             AlignedBuffer(max_rows * decoded_stride_), AlignedBuffer::zeros(decoded_stride_)});
    draws_ = draws;
    draws.next += static_cast<std::uint64_t>(n_blocks_);
}

void MomentSampler::run_task(const TrainingKernels& kernels, int task, int thread) {
    auto& [noise, z, logits, even, odd, own_hidden, output, share] = scratch_[static_cast<std::size_t>(thread)];
    const int n = n_rows_, n_latent = attributes_.n_latent, n_decoded = start_.back();
    const int count = std::min(kSamplesPerBlock, n_samples_ - task * kSamplesPerBlock);
    const int block_rows = count * n;
    // Latents of one sample follow those of the one before without padding: a quarter fewer numbers for twelve columns.
    const long noise_lines = (static_cast<long>(block_rows) * n_latent + kLine - 1) / kLine;
    kernels.fill_normal(draws_.seed, draws_.next + static_cast<std::uint64_t>(task), noise.data(), noise_lines * kLine);
    kernels.draw_latents({count, n, 0, n, n_latent, latent_stride_, n_latent, z_stride_, mean_.data(),
                          log_variance_.data(), noise.data(), z.data()});
    const Matrix context{context_.empty() ? nullptr : context_[0].data(), context_stride_};
    for (int row = 0; row < block_rows; row += kRowsPerTile) {
        const int tile = std::min(kRowsPerTile, block_rows - row);
        float* input = z.data() + static_cast<long>(row) * z_stride_;
        mask_decoder_->run({input, z_stride_}, tile, even.data(), odd.data(), logits.data());
        kernels.sigmoid(logits.data(), tile, attributes_.count(), attribute_stride_, input + n_latent, z_stride_);
        const long first_row = static_cast<long>(task) * kSamplesPerBlock * n + row;
        float* hidden = wide_ ? wide_->hidden(first_row) : own_hidden.data();
        data_decoder_->run_hidden({input, z_stride_}, tile, even.data(), odd.data(), hidden,
                                  context.data ? &context : nullptr, n, row);
        if (n_decoded > 0)
            kernels.product({hidden, hidden_stride_, 1, weight_.data(), decoded_stride_, bias_.data(),
                             output.data() + static_cast<long>(row) * decoded_stride_, decoded_stride_, tile,
                             whole_lines(n_decoded), n_hidden_, false});
    }
    if (n_decoded == 0) return;
    const long moments = static_cast<long>(n) * decoded_stride_;
    kernels.sample_moments({count, n, static_cast<int>(decoded_.size()), n_decoded, start_.data(), kind_.data(),
                            output.data(), decoded_stride_, total_.data() + task * moments,
                            square_.data() + task * moments, any_categorical() ? share.data() : nullptr});
}

void MomentSampler::finish(SharedWork& work, float* moment, float* variance) {
    const int stride = row_stride(attributes_.n_columns());
    if (wide_) wide_->finish(work, *data_decoder_, n_rows_, moment, variance, stride);
    finish_decoded(moment, variance);
    for (int a = 0; a < attributes_.count(); ++a) {
        const int begin = attributes_.start[a], end = attributes_.start[a + 1];
        const bool numerical = attributes_.kind[a] == kNumerical;
        const float own = numerical ? std::exp(2.0f * log_scale_.data()[begin]) : 0.0f;
        for (long r = 0; r < n_rows_; ++r)
            for (int c = begin; c < end; ++c) {
                float& value = variance[r * stride + c];
                value = numerical ? value + own : 0.0f;
            }
    }
}

void MomentSampler::finish_decoded(float* moment, float* variance) const {
    const long moments = static_cast<long>(n_rows_) * decoded_stride_;
    const auto count = static_cast<float>(n_samples_);
    const int stride = row_stride(attributes_.n_columns());
    for (long r = 0; r < n_rows_; ++r)
        for (std::size_t i = 0; i < decoded_.size(); ++i) {
            const int from = attributes_.start[decoded_[i]], width = start_[i + 1] - start_[i];
            float spread = 0;
            for (int c = 0; c < width; ++c) {
                const long at = r * decoded_stride_ + start_[i] + c;
                float sum = 0, sum_of_squares = 0;
                for (int b = 0; b < n_blocks_; ++b) {
                    sum += total_.data()[b * moments + at];
                    sum_of_squares += square_.data()[b * moments + at];
                }
                const float mean = sum / count;
                moment[r * stride + from + c] = mean;
                spread += std::max(sum_of_squares / count - mean * mean, 0.0f);
            }
            std::fill_n(variance + r * stride + from, width, spread / static_cast<float>(width));
        }
}

}  // namespace vsae
