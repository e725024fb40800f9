#include "cpu/sample_moments.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/importance_impute.h"

namespace vsae {

namespace {

constexpr int kSamplesPerBlock = 10;    // drawn at once; BLOCK in vsae_fast/ops/sample_moments.py
constexpr int kRowsPerTile = 36;        // decoded at once with their images: activations stay in the first-level cache
constexpr int kWorthSecondMoments = 2;  // columns of wide attributes for each hidden neuron

}  // namespace

MomentSampler::MomentSampler(Attributes attributes, int n_hidden, int n_samples, int max_rows)
    : attributes_(std::move(attributes)),
      n_hidden_(n_hidden),
      n_samples_(n_samples),
      max_rows_(max_rows),
      n_blocks_((n_samples + kSamplesPerBlock - 1) / kSamplesPerBlock),
      latent_stride_(row_stride(attributes_.n_latent)),
      hidden_stride_(row_stride(n_hidden)),
      attribute_stride_(row_stride(attributes_.count())),
      start_{0},
      decoded_stride_(0),
      weight_(0),
      bias_(0),
      total_(0),
      square_(0),
      no_mean_(AlignedBuffer::zeros(static_cast<long>(max_rows) * latent_stride_)),
      log_variance_(static_cast<long>(max_rows) * latent_stride_),
      log_scale_(attributes_.n_columns()),
      mask_centre_(0),
      data_centre_(0) {
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
    const int n_latent = attributes_.n_latent;
    if (!mask_decoder_) {
        mask_centre_ = AlignedBuffer(static_cast<long>(max_rows_) * mask_decoder.first_stride());
        data_centre_ = AlignedBuffer(static_cast<long>(max_rows_) * data_decoder.first_stride());
    }
    mask_decoder_ = &mask_decoder;
    data_decoder_ = &data_decoder;
    n_rows_ = rows.n;
    std::copy_n(rows.log_variance, static_cast<long>(rows.n) * latent_stride_, log_variance_.data());
    std::copy_n(rows.log_scale, attributes_.n_columns(), log_scale_.data());
    for (const auto& [decoder, centre] :
         {std::pair(&mask_decoder, mask_centre_.data()), std::pair(&data_decoder, data_centre_.data())})
        decoder->multiply_first_inputs(rows.mean, latent_stride_, n_latent, rows.n, decoder->first_bias(), centre);
    if (rows.context)
        for (long r = 0; r < rows.n; ++r)
            for (int c = 0; c < data_decoder.first_columns(); ++c)
                data_centre_.data()[r * data_decoder.first_stride() + c] +=
                    rows.context->data[r * rows.context->stride + c];
    const int output_stride = row_stride(attributes_.n_columns());
    for (std::size_t i = 0; i < decoded_.size(); ++i) {
        const int from = attributes_.start[decoded_[i]], width = start_[i + 1] - start_[i];
        std::copy_n(data_decoder.output_bias() + from, width, bias_.data() + start_[i]);
        for (long h = 0; h < n_hidden_; ++h)
            std::copy_n(data_decoder.output_weight() + h * output_stride + from, width,
                        weight_.data() + h * decoded_stride_ + start_[i]);
    }
    const long drawn_rows = (kSamplesPerBlock + 1L) / 2 * max_rows_;
    const long widest = std::max(mask_decoder.scratch_stride(), data_decoder.scratch_stride());
    while (static_cast<int>(scratch_.size()) < n_threads)
        scratch_.push_back({AlignedBuffer(drawn_rows * n_latent + 2L * kLine),
                            AlignedBuffer(drawn_rows * latent_stride_), AlignedBuffer(kRowsPerTile * widest),
                            AlignedBuffer(2 * kRowsPerTile * widest), AlignedBuffer(2 * kRowsPerTile * widest),
                            AlignedBuffer(2L * kRowsPerTile * attribute_stride_),
                            AlignedBuffer(static_cast<long>(kSamplesPerBlock) * max_rows_ * decoded_stride_),
                            AlignedBuffer::zeros(decoded_stride_)});
    draws_ = draws;
    draws.next += static_cast<std::uint64_t>(n_blocks_);
}

void MomentSampler::run_task(const TrainingKernels& kernels, int task, int thread) {
    Scratch& scratch = scratch_[static_cast<std::size_t>(thread)];
    const int n = n_rows_, n_latent = attributes_.n_latent, n_decoded = start_.back();
    const int count = std::min(kSamplesPerBlock, n_samples_ - task * kSamplesPerBlock);
    const int drawn = (count + 1) / 2;
    const long drawn_rows = static_cast<long>(drawn) * n, image_rows = static_cast<long>(count - drawn) * n;
    // Latents of one sample follow those of the one before without padding: a quarter fewer numbers for twelve columns.
    const long noise_lines = (drawn_rows * n_latent + kLine - 1) / kLine;
    kernels.fill_normal(draws_.seed, draws_.next + static_cast<std::uint64_t>(task), scratch.noise.data(),
                        noise_lines * kLine);
    kernels.draw_latents({drawn, n, 0, n, n_latent, latent_stride_, n_latent, latent_stride_, no_mean_.data(),
                          log_variance_.data(), scratch.noise.data(), scratch.deviation.data()});
    for (long row = 0; row < drawn_rows; row += kRowsPerTile) {
        const int rows = static_cast<int>(std::min<long>(kRowsPerTile, drawn_rows - row));
        const int images = static_cast<int>(std::clamp<long>(image_rows - row, 0, rows));
        const float* hidden = decode(kernels, scratch, row, rows, images);
        const auto keep = [&](const float* of_run, long at, int run) {
            if (wide_)
                std::copy_n(of_run, static_cast<long>(run) * hidden_stride_,
                            wide_->hidden(static_cast<long>(task) * kSamplesPerBlock * n + at));
            if (n_decoded > 0)
                kernels.product({of_run, hidden_stride_, 1, weight_.data(), decoded_stride_, bias_.data(),
                                 scratch.output.data() + at * decoded_stride_, decoded_stride_, run,
                                 whole_lines(n_decoded), n_hidden_, false});
        };
        keep(hidden, row, rows);
        if (images > 0) keep(hidden + static_cast<long>(rows) * hidden_stride_, drawn_rows + row, images);
    }
    if (n_decoded == 0) return;
    const long moments = static_cast<long>(n) * decoded_stride_;
    kernels.sample_moments({count, n, static_cast<int>(decoded_.size()), n_decoded, start_.data(), kind_.data(),
                            scratch.output.data(), decoded_stride_, total_.data() + task * moments,
                            square_.data() + task * moments, any_categorical() ? scratch.share.data() : nullptr});
}

// The last hidden vectors of `rows` samples from row `row` of a block on, then those of the first `images` of their
// images.
const float* MomentSampler::decode(const TrainingKernels& kernels, Scratch& scratch, long row, int rows, int images) {
    const int n_latent = attributes_.n_latent, both = rows + images;
    const float* deviation = scratch.deviation.data() + row * latent_stride_;
    float *product = scratch.product.data(), *even = scratch.even.data(), *odd = scratch.odd.data();
    const auto first_layer = [&](const FoldedMlp& decoder, const AlignedBuffer& centre, float slope) {
        decoder.multiply_first_inputs(deviation, latent_stride_, n_latent, rows, nullptr, product);
        kernels.mirror({rows, images, decoder.first_columns(), decoder.first_stride(), product, centre.data(), row,
                        n_rows_, slope, even});
    };
    first_layer(*mask_decoder_, mask_centre_, mask_decoder_->first_slope());
    const float* logits = mask_decoder_->run_further(even, odd, both);
    kernels.sigmoid(logits, both, attributes_.count(), attribute_stride_, scratch.probability.data(),
                    attribute_stride_);
    first_layer(*data_decoder_, data_centre_, 1.0f);
    data_decoder_->add_last_inputs(scratch.probability.data(), attribute_stride_, n_latent, both, even);
    return data_decoder_->run_further(even, odd, both, 1);
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
