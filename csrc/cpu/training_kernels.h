// The parts of a training step that are compiled once per instruction set.
#pragma once

#include <cstdint>

#include "core/training_step.h"
#include "cpu/cpu_level.h"

namespace vsae {

struct TrainingKernels {
    void (*product)(const Product&);
    void (*transpose)(const float* from, long from_stride, int rows, int columns, float* to, long to_stride);
    void (*normalise)(Normalisation&);
    void (*normalise_backward)(const NormalisationGradient&);
    void (*moments_of_rows)(const Normalisation&, const RowMoments& part);
    void (*merge_moments)(Normalisation&, const RowMoments* parts, int n_parts);
    void (*normalise_rows)(const Normalisation&, int first, int last);
    void (*gradient_sums_of_rows)(const NormalisationGradient&, int first, int last);
    void (*gradient_of_rows)(const NormalisationGradient&, int first, int last);
    void (*sum_parts)(const float* parts, long step, int n_parts, float* to, long floats);
    void (*activate_backward)(float* gradient, const float* out, long floats, float slope);
    void (*column_sum)(const float* h, int rows, int columns, int stride, float* sum);  // whole lines
    void (*sigmoid)(const float* logits, int rows, int columns, int logit_stride, float* out, int out_stride);
    void (*sigmoid_backward)(const float* p, const float* above, int rows, int columns, int stride, float* gradient,
                             int gradient_stride);
    void (*add_context)(const Context&);
    void (*standard_deviations)(float* log_variance, long floats);  // in place, of log-variances cut off at the limit
    void (*draw_latents)(const Latents&);
    void (*latent_gradient)(const LatentGradient&);
    void (*kl_divergence)(const KlDivergence&);
    void (*combine_experts)(const Experts&);
    void (*separate_experts)(const Experts&, const float* mean_gradient, const float* log_variance_gradient,
                             float* const* gradients);
    void (*log_weights)(const LogWeights&);
    void (*centre_rows)(const SampledRows&);
    void (*sample_moments)(const SampleMoments&);
    void (*centre)(const CentredRow&);
    float (*dot)(const float* x, const float* y, long floats);
    void (*adam)(const AdamStep&);
    double (*squared_norm)(const float* x, long floats);
    void (*fill_uniform)(std::uint64_t seed, std::uint64_t number, float* out, long floats);
    void (*fill_normal)(std::uint64_t seed, std::uint64_t number, float* out, long floats);
};

const TrainingKernels& training_kernels_for(CpuLevel level);

}  // namespace vsae
