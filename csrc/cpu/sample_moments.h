// Moments of x ~ p(x | z) over samples of z from both decoders in evaluation mode (phase 2 of appendix D).
//
// The noise of a block's second half is that of its first half negated: both decoders begin with a linear layer,
// W z = W mean + W (scale e), whose first term is one of the row and whose second one serves a sample and its mirror
// image. Odd terms of the sampling error cancel on top.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/aligned_buffer.h"
#include "cpu/block_moments.h"
#include "cpu/folded_mlp.h"
#include "cpu/shared_work.h"

namespace vsae {

// The streams of random numbers that a call draws, one after the other.
struct Draws {
    std::uint64_t seed;
    std::uint64_t next;
};

struct Attributes {
    std::vector<int> start;  // [M + 1]
    std::vector<int> kind;   // [M]
    int n_latent;            // L

    int n_columns() const { return start.back(); }
    int count() const { return static_cast<int>(kind.size()); }
};

// Work in tasks that may run at the same time, and beside anything that leaves the decoders alone: prepare(), then
// run_task(0..n_tasks() - 1) in any order, then finish().
class MomentSampler {
   public:
    // `n_hidden` is the width of the data decoder's last hidden layer.
    MomentSampler(Attributes attributes, int n_hidden, int n_samples, int max_rows);

    struct Rows {
        int n;
        const float* mean;          // [N, L], stride row_stride(L)
        const float* log_variance;  // likewise
        const Matrix* context;      // a row for each row, folded; or null
        const float* log_scale;     // [D]
    };

    // Copies what it needs of the rows, keeps the decoders' addresses and takes the streams that the tasks will draw
    // from; tasks will run on `n_threads` threads.
    void prepare(const FoldedMlp& mask_decoder, const FoldedMlp& data_decoder, const Rows& rows, Draws& draws,
                 int n_threads);
    int n_tasks() const { return n_blocks_; }
    void run_task(const TrainingKernels& kernels, int task, int thread);
    // Writes mean and variance of x, [N, D] with stride row_stride(D): variances of an attribute's columns are their
    // mean, those of categorical columns 0.
    void finish(SharedWork& work, float* moment, float* variance);

   private:
    // What one thread needs.
    struct Scratch {
        AlignedBuffer noise, deviation, product, even, odd, probability, output, share;
    };

    Attributes attributes_;
    int n_hidden_, n_samples_, max_rows_, n_blocks_, latent_stride_, hidden_stride_, attribute_stride_;
    std::vector<int> decoded_;       // attributes whose outputs are decoded sample by sample
    std::vector<int> start_, kind_;  // of these
    int decoded_stride_;
    AlignedBuffer weight_, bias_;         // of their outputs
    std::unique_ptr<BlockMoments> wide_;  // the others, if there are any
    AlignedBuffer total_, square_;        // of each block of samples
    AlignedBuffer no_mean_;  // zeros: deviations from the mean are drawn, the mean itself is in the centres
    AlignedBuffer log_variance_, log_scale_;
    AlignedBuffer mask_centre_, data_centre_;  // first layers where the noise is zero
    std::vector<Scratch> scratch_;
    const FoldedMlp *mask_decoder_ = nullptr, *data_decoder_ = nullptr;
    int n_rows_ = 0;
    Draws draws_{};

    bool any_categorical() const;
    void split(int max_rows);
    const float* decode(const TrainingKernels& kernels, Scratch& scratch, long row, int rows, int images);
    void finish_decoded(float* moment, float* variance) const;
};

}  // namespace vsae
