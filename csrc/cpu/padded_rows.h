// A copy of row-major values with rows padded to row_stride(), as the kernels of a training step take them.
#pragma once

#include <algorithm>

#include "core/training_step.h"
#include "cpu/aligned_buffer.h"

namespace vsae {

class PaddedRows {
   public:
    PaddedRows(int rows, int columns)
        : rows_(rows), columns_(columns), stride_(row_stride(columns)), buffer_(AlignedBuffer::zeros(floats())) {}

    // `step` floats lie between the rows of `from`.
    PaddedRows(const float* from, int rows, int columns, long step) : PaddedRows(rows, columns) { read(from, step); }

    void read(const float* from, long step) {
        for (long r = 0; r < rows_; ++r) std::copy_n(from + r * step, columns_, data() + r * stride_);
    }
    void write(float* to, long step) const {
        for (long r = 0; r < rows_; ++r) std::copy_n(buffer_.data() + r * stride_, columns_, to + r * step);
    }

    float* data() { return buffer_.data(); }
    const float* data() const { return buffer_.data(); }
    int stride() const { return stride_; }
    long floats() const { return static_cast<long>(rows_) * stride_; }

   private:
    int rows_, columns_, stride_;
    AlignedBuffer buffer_;
};

}  // namespace vsae
