// Compiled once per instruction set, with VSAE_ISA and VSAE_LANES set by the build.
#include <algorithm>

#include "cpu/adam.h"
#include "cpu/log_weights.h"
#include "cpu/normalisation.h"
#include "cpu/product.h"
#include "cpu/product_of_experts.h"
#include "cpu/random_stream.h"
#include "cpu/sample_moments_body.h"
#include "cpu/training_kernels.h"
#include "cpu/transpose.h"

namespace vsae {
namespace VSAE_ISA {

static void activate_backward(float* gradient, const float* out, long floats, float slope) {
    for (long i = 0; i < floats; i += kLanes) {
        const Vec g = load(gradient + i);
        store(gradient + i, load(out + i) > 0.0f ? g : slope * g);
    }
}

static void column_sum(const float* h, int rows, int columns, int stride, float* sum) {
    for (int c = 0; c < columns; c += kLanes) {
        Vec even{}, odd{};
        int r = 0;
        for (; r + 1 < rows; r += 2) {
            even += load(h + static_cast<long>(r) * stride + c);
            odd += load(h + static_cast<long>(r + 1) * stride + c);
        }
        if (r < rows) even += load(h + static_cast<long>(r) * stride + c);
        store(sum + c, even + odd);
    }
}

// `out` need not be aligned: probabilities stand behind the latents in the data decoder's input.
static void sigmoids(const float* logits, int rows, int columns, int logit_stride, float* out, int out_stride) {
    for (long r = 0; r < rows; ++r)
        for (int c = 0; c < columns; c += kLanes)
            store_unaligned(out + r * out_stride + c, sigmoid(load(logits + r * logit_stride + c)));
}

// gradient += above * p (1 - p) for probabilities that sigmoids() wrote.
static void sigmoids_backward(const float* p, const float* above, int rows, int columns, int stride, float* gradient,
                              int gradient_stride) {
    for (long r = 0; r < rows; ++r)
        for (int c = 0; c < columns; c += kLanes) {
            const Vec q = load_unaligned(p + r * stride + c);
            const Vec term = load_unaligned(above + r * stride + c) * q * (1.0f - q);
            float* to = gradient + r * gradient_stride + c;
            store(to, load(to) + first_lanes(term, columns - c));
        }
}

static void add_context(const Context& context) {
    for (long r = context.first; r < context.last; ++r) {
        const float* of_row = context.data + r / context.n_samples * context.stride;
        for (int c = 0; c < context.columns; c += kLanes)
            store(context.to + r * context.to_stride + c, load(of_row + c) + load(context.bias + c));
    }
}

static Vec standard_deviation(Vec log_variance) {
    const Vec limit = splat(kLogVarianceLimit);
    return exp(0.5f * max(min(log_variance, limit), -limit));
}

static void standard_deviations(float* log_variance, long floats) {
    long i = 0;
    for (; i + kLanes <= floats; i += kLanes)
        store_unaligned(log_variance + i, standard_deviation(load_unaligned(log_variance + i)));
    float last[kLanes] = {};
    std::copy(log_variance + i, log_variance + floats, last);
    store_unaligned(last, standard_deviation(load_unaligned(last)));
    std::copy_n(last, floats - i, log_variance + i);
}

extern const TrainingKernels training_kernels;
const TrainingKernels training_kernels = {
    product,
    transpose,
    normalise,
    normalise_backward,
    moments_of_rows,
    merge_moments,
    normalise_rows,
    gradient_sums_of_rows,
    gradient_of_rows,
    sum_parts,
    activate_backward,
    column_sum,
    sigmoids,
    sigmoids_backward,
    add_context,
    standard_deviations,
    draw_latents,
    latent_gradient,
    kl_divergence,
    combine_experts,
    separate_experts,
    log_weights,
    centre_rows,
    sample_moments,
    centre,
    dot,
    adam,
    squared_norm,
    fill_uniform,
    fill_normal,
};

}  // namespace VSAE_ISA
}  // namespace vsae
