// Moments of wide numerical attributes over samples of z, from the decoder's last hidden vectors alone.
//
// An attribute's columns share their scale, so that the expected bound asks for the sum of their variances, not for
// each. With outputs W h + b that sum is <cov(h), W' W>: an image of 784 pixels costs what its hidden vectors cost,
// whatever the number of pixels.
#pragma once

#include <vector>

#include "cpu/aligned_buffer.h"
#include "cpu/folded_mlp.h"
#include "cpu/shared_work.h"

namespace vsae {

// Columns [begin, end) of one attribute.
struct ColumnRange {
    int begin, end;
};

class BlockMoments {
   public:
    BlockMoments(std::vector<ColumnRange> blocks, int n_columns, int n_hidden, int n_samples, int max_rows);

    // Where the hidden vectors of sample s of row r go: row s N + r, stride row_stride(n_hidden).
    float* hidden(long sample_row) { return hidden_.data() + sample_row * stride_; }

    // Writes the mean output of every column and the mean variance of each block's columns, [N, D].
    void finish(SharedWork& work, const FoldedMlp& decoder, int n_rows, float* moment, float* variance,
                int column_stride);

   private:
    // What one thread needs: centred hidden vectors of one row, and their second moments.
    struct Scratch {
        AlignedBuffer centred, second;
    };

    std::vector<ColumnRange> blocks_;
    int n_columns_, n_hidden_, n_samples_, stride_;
    AlignedBuffer hidden_, mean_, transposed_;
    std::vector<AlignedBuffer> gram_;  // W' W of each block
    std::vector<Scratch> scratch_;

    void multiply_weights(SharedWork& work, const FoldedMlp& decoder);
};

}  // namespace vsae
