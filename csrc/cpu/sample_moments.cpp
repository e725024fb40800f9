#include "cpu/sample_moments.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/importance_impute.h"

namespace vsae {

namespace {

constexpr int kSamplesPerBlock = 8;  // of a task; BLOCK in vsae_fast/ops/sample_moments.py
constexpr int kQuartetsPerBlock = kSamplesPerBlock / kQuartet;
constexpr int kWorthSecondMoments = 2;  // columns of wide attributes for each hidden neuron

int groups_of(int n_rows) { return (n_rows + kRowsPerGroup - 1) / kRowsPerGroup; }

}  // namespace

MomentSampler::MomentSampler(const TrainingKernels& kernels, Attributes attributes, int n_hidden, int n_samples,
                             int max_rows)
    : kernels_(kernels),
      attributes_(std::move(attributes)),
      n_hidden_(n_hidden),
      n_samples_(n_samples),
      n_blocks_(n_streams(n_samples)),
      n_groups_(groups_of(max_rows)),
      latent_stride_(row_stride(attributes_.n_latent)),
      hidden_stride_(row_stride(n_hidden)),
      start_{0},
      output_weight_(0),
      output_bias_(0),
      total_(0),
      square_(0),
      scale_(static_cast<long>(n_groups_) * attributes_.n_latent * kRowsPerGroup),
      latents_(static_cast<long>(attributes_.n_latent) * kRowsPerGroup),
      mask_centre_(0),
      data_centre_(0),
      log_scale_(attributes_.n_columns()) {
    split(max_rows);
    if (wide_) {
        output_weight_ = AlignedBuffer::zeros(static_cast<long>(n_hidden) * row_stride(n_decoded()));
        output_bias_ = AlignedBuffer::zeros(row_stride(n_decoded()));
    }
    total_ = AlignedBuffer(n_blocks_ * n_groups_ * moment_floats());
    square_ = AlignedBuffer(n_blocks_ * n_groups_ * moment_floats());
}

int MomentSampler::n_streams(int n_samples) { return (n_samples + kSamplesPerBlock - 1) / kSamplesPerBlock; }

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

void MomentSampler::pack(const FoldedMlp& mask_decoder, const FoldedMlp& data_decoder) {
    const bool first = mask_layers_.size() == 0;
    mask_layers_.pack(mask_decoder);
    data_layers_.pack(data_decoder, 1);
    if (first) {
        mask_centre_ = AlignedBuffer(n_groups_ * group_floats(mask_layers_.first()));
        data_centre_ = AlignedBuffer(n_groups_ * group_floats(data_layers_.first()));
    }
    if (decoded_.empty()) return;
    const float *weight = data_decoder.output_weight(), *bias = data_decoder.output_bias();
    if (wide_) {
        const int from_stride = row_stride(attributes_.n_columns()), stride = row_stride(n_decoded());
        for (std::size_t i = 0; i < decoded_.size(); ++i) {
            const int from = attributes_.start[decoded_[i]], width = start_[i + 1] - start_[i];
            std::copy_n(bias + from, width, output_bias_.data() + start_[i]);
            for (long h = 0; h < n_hidden_; ++h)
                std::copy_n(weight + h * from_stride + from, width, output_weight_.data() + h * stride + start_[i]);
        }
        weight = output_weight_.data();
        bias = output_bias_.data();
    }
    output_.pack(0, weight, bias, n_hidden_, n_decoded(), false);
}

void MomentSampler::prepare(const FoldedMlp& mask_decoder, const FoldedMlp& data_decoder, const Rows& rows,
                            Draws& draws, int n_threads) {
    const long n_latent = attributes_.n_latent;
    pack(mask_decoder, data_decoder);
    data_decoder_ = &data_decoder;
    n_rows_ = rows.n;
    std::copy_n(rows.log_scale, attributes_.n_columns(), log_scale_.data());
    for (int group = 0; group < groups_of(rows.n); ++group) {
        const long first = static_cast<long>(group) * kRowsPerGroup;
        const float* context = rows.context ? rows.context->data + first * rows.context->stride : nullptr;
        kernels_.centre_rows(
            {std::min(rows.n - static_cast<int>(first), kRowsPerGroup), attributes_.n_latent, latent_stride_,
             rows.mean + first * latent_stride_, rows.log_variance + first * latent_stride_, context,
             rows.context ? rows.context->stride : 0, mask_layers_.first(), data_layers_.first(), latents_.data(),
             scale_.data() + first * n_latent, mask_centre_.data() + group * group_floats(mask_layers_.first()),
             data_centre_.data() + group * group_floats(data_layers_.first())});
    }
    const int widest = std::max({mask_layers_.widest(), data_layers_.widest(), padded(n_decoded())});
    const long both = 2L * kRowsPerGroup;  // samples and images
    while (static_cast<int>(scratch_.size()) < n_threads)
        scratch_.push_back({AlignedBuffer(kQuartetsPerBlock * n_groups_ * n_latent * kRowsPerGroup),
                            AlignedBuffer(n_latent * kRowsPerGroup),
                            AlignedBuffer(2 * group_floats(mask_layers_.first())),
                            AlignedBuffer(2 * group_floats(data_layers_.first())), AlignedBuffer(widest * both),
                            AlignedBuffer(widest * both), AlignedBuffer(padded(mask_decoder.n_out()) * both)});
    draws_ = draws;
    draws.next += static_cast<std::uint64_t>(n_blocks_);
}

void MomentSampler::run_task(int task, int thread) {
    Scratch& scratch = scratch_[static_cast<std::size_t>(thread)];
    const int sample = task * kSamplesPerBlock, count = std::min(kSamplesPerBlock, n_samples_ - sample);
    const int n_groups = groups_of(n_rows_), n_quartets = (count + kQuartet - 1) / kQuartet;
    const long latents = static_cast<long>(attributes_.n_latent) * kRowsPerGroup;
    kernels_.fill_normal(draws_.seed, draws_.next + static_cast<std::uint64_t>(task), scratch.noise.data(),
                         n_quartets * n_groups * latents);
    for (int group = 0; group < n_groups; ++group) {
        const int row = group * kRowsPerGroup;
        const long moments = (static_cast<long>(task) * n_groups_ + group) * moment_floats();
        kernels_.sample_moments({count,
                                 std::min(n_rows_ - row, kRowsPerGroup),
                                 attributes_.n_latent,
                                 mask_layers_.size(),
                                 data_layers_.size(),
                                 mask_layers_.layers(),
                                 data_layers_.layers(),
                                 data_decoder_->slope(),
                                 scale_.data() + group * latents,
                                 mask_centre_.data() + group * group_floats(mask_layers_.first()),
                                 data_centre_.data() + group * group_floats(data_layers_.first()),
                                 scratch.noise.data() + group * latents,
                                 n_groups * latents,
                                 decoded_.empty() ? nullptr : output_.layers(),
                                 static_cast<int>(decoded_.size()),
                                 start_.data(),
                                 kind_.data(),
                                 total_.data() + moments,
                                 square_.data() + moments,
                                 wide_ ? wide_->hidden(static_cast<long>(sample) * n_rows_ + row) : nullptr,
                                 static_cast<long>(n_rows_) * hidden_stride_,
                                 hidden_stride_,
                                 scratch.deviation.data(),
                                 scratch.mask_product.data(),
                                 scratch.data_product.data(),
                                 scratch.even.data(),
                                 scratch.odd.data(),
                                 scratch.probability.data()});
    }
}

void MomentSampler::finish(SharedWork& work, float* moment, float* variance,
                           const std::function<void(int first, int last)>& then) {
    const int stride = row_stride(attributes_.n_columns());
    if (wide_) wide_->finish(work, *data_decoder_, n_rows_, moment, variance, stride);
    work.tasks(groups_of(n_rows_), [&](int group, int) {
        const int first = group * kRowsPerGroup, last = std::min(n_rows_, first + kRowsPerGroup);
        finish_decoded(group, moment, variance);
        for (int a = 0; a < attributes_.count(); ++a) {
            const int begin = attributes_.start[a], end = attributes_.start[a + 1];
            const bool numerical = attributes_.kind[a] == kNumerical;
            const float own = numerical ? std::exp(2.0f * log_scale_.data()[begin]) : 0.0f;
            for (long r = first; r < last; ++r)
                for (int c = begin; c < end; ++c) {
                    float& value = variance[r * stride + c];
                    value = numerical ? value + own : 0.0f;
                }
        }
        if (then) then(first, last);
    });
}

void MomentSampler::finish_decoded(int group, float* moment, float* variance) const {
    const auto count = static_cast<float>(n_samples_);
    const long block = n_groups_ * moment_floats();
    const int stride = row_stride(attributes_.n_columns());
    const int row = group * kRowsPerGroup, n_rows = std::min(n_rows_ - row, kRowsPerGroup);
    for (std::size_t i = 0; i < decoded_.size(); ++i) {
        const int from = attributes_.start[decoded_[i]], width = start_[i + 1] - start_[i];
        float spread[kRowsPerGroup] = {};
        for (int c = 0; c < width; ++c) {
            const long at = group * moment_floats() + (start_[i] + c) * static_cast<long>(kRowsPerGroup);
            float total[kRowsPerGroup] = {}, square[kRowsPerGroup] = {};
            for (int b = 0; b < n_blocks_; ++b)
                for (int r = 0; r < kRowsPerGroup; ++r) {
                    total[r] += total_.data()[b * block + at + r];
                    square[r] += square_.data()[b * block + at + r];
                }
            for (int r = 0; r < kRowsPerGroup; ++r) {
                const float mean = total[r] / count;
                total[r] = mean;
                spread[r] += std::max(square[r] / count - mean * mean, 0.0f);
            }
            for (int r = 0; r < n_rows; ++r) moment[static_cast<long>(row + r) * stride + from + c] = total[r];
        }
        for (int r = 0; r < n_rows; ++r)
            std::fill_n(variance + static_cast<long>(row + r) * stride + from, width,
                        spread[r] / static_cast<float>(width));
    }
}

}  // namespace vsae
