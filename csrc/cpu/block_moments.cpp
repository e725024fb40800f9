#include "cpu/block_moments.h"

#include <algorithm>
#include <utility>

namespace vsae {

BlockMoments::BlockMoments(std::vector<ColumnRange> blocks, int n_columns, int n_hidden, int n_samples, int max_rows)
    : blocks_(std::move(blocks)),
      n_columns_(n_columns),
      n_hidden_(n_hidden),
      n_samples_(n_samples),
      stride_(row_stride(n_hidden)),
      hidden_(AlignedBuffer::zeros(static_cast<long>(n_samples) * max_rows * stride_)),
      mean_(AlignedBuffer::zeros(static_cast<long>(max_rows) * stride_)),
      transposed_(AlignedBuffer::zeros(static_cast<long>(n_columns) * stride_)) {
    for (std::size_t b = 0; b < blocks_.size(); ++b)
        gram_.push_back(AlignedBuffer::zeros(static_cast<long>(n_hidden) * stride_));
}

void BlockMoments::multiply_weights(SharedWork& work, const FoldedMlp& decoder) {
    const float* weight = decoder.output_weight();  // [H, D]
    const int weight_stride = row_stride(n_columns_);
    const long terms = 4L * n_columns_ * n_hidden_;
    work.rows(n_columns_, terms, [&](long begin, long end, int) {
        for (int h = 0; h < n_hidden_; ++h)
            for (long c = begin; c < end; ++c) transposed_.data()[c * stride_ + h] = weight[h * weight_stride + c];
    });
    for (std::size_t b = 0; b < blocks_.size(); ++b) {
        const auto [begin, end] = blocks_[b];
        work.product({weight + begin, weight_stride, 1, transposed_.data() + static_cast<long>(begin) * stride_,
                      stride_, nullptr, gram_[b].data(), stride_, n_hidden_, whole_lines(n_hidden_), end - begin,
                      false});
    }
}

void BlockMoments::finish(SharedWork& work, const FoldedMlp& decoder, int n_rows, float* moment, float* variance,
                          int column_stride) {
    multiply_weights(work, decoder);
    const long square = static_cast<long>(n_hidden_) * stride_;
    while (static_cast<int>(scratch_.size()) < work.n_threads())
        scratch_.push_back({AlignedBuffer(static_cast<long>(n_samples_) * stride_), AlignedBuffer::zeros(square)});
    const long terms = static_cast<long>(n_rows) * n_samples_ * n_hidden_ * n_hidden_;
    work.rows(n_rows, terms, [&](long begin, long end, int thread) {
        auto& [centred, second] = scratch_[static_cast<std::size_t>(thread)];
        for (long row = begin; row < end; ++row) {
            work.kernels.centre({n_samples_, n_hidden_, hidden_.data() + row * stride_,
                                 static_cast<long>(n_rows) * stride_, stride_, mean_.data() + row * stride_,
                                 centred.data()});
            work.kernels.product({centred.data(), 1, stride_, centred.data(), stride_, nullptr, second.data(), stride_,
                                  n_hidden_, whole_lines(n_hidden_), n_samples_, false});
            for (std::size_t b = 0; b < blocks_.size(); ++b) {
                const auto [first, last] = blocks_[b];
                const float sum = work.kernels.dot(second.data(), gram_[b].data(), square);
                std::fill(variance + row * column_stride + first, variance + row * column_stride + last,
                          sum / static_cast<float>(n_samples_ * (last - first)));
            }
        }
    });
    work.product({mean_.data(), stride_, 1, decoder.output_weight(), row_stride(n_columns_), decoder.output_bias(),
                  moment, column_stride, n_rows, whole_lines(n_columns_), n_hidden_, false});
}

}  // namespace vsae
