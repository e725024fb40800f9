// Moments of x ~ p(x | z) over samples of z from both decoders in evaluation mode (phase 2 of appendix D).
//
// Sixteen rows are decoded side by side, a row in every lane, so that sums over the samples stay in their lanes.
// Samples come in quartets: one draw of noise with four combinations of signs, of its first and its second half of
// latents. Both decoders begin with a linear layer, whose products four samples share; odd terms of the sampling error
// in either half cancel on top.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "cpu/aligned_buffer.h"
#include "cpu/block_moments.h"
#include "cpu/folded_mlp.h"
#include "cpu/packed_stack.h"
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
    MomentSampler(const TrainingKernels& kernels, Attributes attributes, int n_hidden, int n_samples, int max_rows);

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

    // How many streams of random numbers prepare() takes.
    static int n_streams(int n_samples);
    void run_task(int task, int thread);
    // Writes mean and variance of x, [N, D] with stride row_stride(D): variances of an attribute's columns are their
    // mean, those of categorical columns 0.
    // `then`, where given, goes on with rows first..last-1 on the thread that has finished them.
    void finish(SharedWork& work, float* moment, float* variance,
                const std::function<void(int first, int last)>& then = {});

   private:
    // What one thread needs.
    struct Scratch {
        AlignedBuffer noise, deviation, mask_product, data_product, even, odd, probability;
    };

    const TrainingKernels& kernels_;
    Attributes attributes_;
    int n_hidden_, n_samples_, n_blocks_, n_groups_, latent_stride_, hidden_stride_;
    std::vector<int> decoded_;                   // attributes whose outputs are decoded sample by sample
    std::vector<int> start_, kind_;              // of these
    AlignedBuffer output_weight_, output_bias_;  // of these, where there are others
    PackedStack mask_layers_, data_layers_, output_;
    std::unique_ptr<BlockMoments> wide_;       // the other attributes, if there are any
    AlignedBuffer total_, square_;             // of each block of samples and group, [outputs, 16]
    AlignedBuffer scale_, latents_;            // of each group, [L, 16]; of one
    AlignedBuffer mask_centre_, data_centre_;  // first layers where the noise is zero
    AlignedBuffer log_scale_;
    std::vector<Scratch> scratch_;
    const FoldedMlp* data_decoder_ = nullptr;
    int n_rows_ = 0;
    Draws draws_{};

    void split(int max_rows);
    void pack(const FoldedMlp& mask_decoder, const FoldedMlp& data_decoder);
    int n_decoded() const { return start_.back(); }
    long group_floats(const DenseLayer& layer) const { return static_cast<long>(padded(layer.n_out)) * kRowsPerGroup; }
    long moment_floats() const { return static_cast<long>(n_decoded()) * kRowsPerGroup; }
    void finish_decoded(int group, float* moment, float* variance) const;
};

}  // namespace vsae
