// Samples of x_u from both decoders in evaluation mode, reduced to their first two moments (appendix D).
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/aligned_buffer.h"
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

class MomentSampler {
   public:
    MomentSampler(Attributes attributes, int n_samples, int max_rows);

    struct Rows {
        int n;
        const float* mean;          // [N, L], stride row_stride(L)
        const float* log_variance;  // likewise
        const Matrix* context;      // a row for each row, folded; or null
        const float* log_scale;     // [D], padded to whole lines
    };

    // Writes mean and population variance of the samples, [N, D] with stride row_stride(D).
    void run(SharedWork& work, const FoldedMlp& mask_decoder, const FoldedMlp& data_decoder, const Rows& rows,
             Draws& draws, float* moment, float* variance);

   private:
    // What one thread needs.
    struct Scratch {
        AlignedBuffer noise, z, logits, even, odd, output, normal, uniform;
    };

    Attributes attributes_;
    int n_samples_, max_rows_, n_blocks_, z_stride_, column_stride_, attribute_stride_;
    bool any_numerical_, any_categorical_;
    AlignedBuffer numerical_;       // [D] 1 in numerical columns
    AlignedBuffer total_, square_;  // sums and sums of squares of each block of samples
    std::vector<Scratch> scratch_;

    void sample_block(const TrainingKernels& kernels, const FoldedMlp& mask_decoder, const FoldedMlp& data_decoder,
                      const Rows& rows, Draws draws, int block, Scratch& scratch);
};

}  // namespace vsae
