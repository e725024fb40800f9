// elbo for CUDA devices of compute capability 6.0 and up, float32: the bound of a row by a block of threads, and its
// gradients with respect to the decoders' outputs, the scales and the proposal.
//
//   log w_k = sum_i weight_i E log p(x_i | z_k) + log p(m | z_k)
//   bound   = log w - KL(q || p), or log 1/K sum_k exp(log w_k + log p(z_k) - log q(z_k)) where there is noise
#include "core/importance_impute.h"
#include "cuda/dense.h"
#include "cuda/sum.h"

namespace vsae {

constexpr int kMostSamples = 1024;  // MOST_SAMPLES in vsae_fast/cuda/elbo.py
constexpr float kHalfLogTwoPi = 0.91893853320467274f;

struct Elbo {
    int n_samples, n_rows, n_columns, n_attributes, n_latent;
    const int* attribute;       // [D] of each column
    const int* start;           // [M + 1] first column of each attribute
    const int* kind;            // [M]
    const float* log_scale;     // [D]
    const float* output;        // [K, N, D]
    const float* mask_logits;   // [K, N, M]
    const float* target;        // [N, D], not read where the weight is 0
    const float* variance;      // [N, D] or null
    const float* mask;          // [N, M]
    const float* weight;        // [N, M]
    const float* mean;          // [N, L]
    const float* log_variance;  // [N, L]
    const float* noise;         // [K, N, L] or null

    __device__ const float* outputs(long long k, long long row) const {
        return output + (k * n_rows + row) * n_columns;
    }
    __device__ const float* logits(long long k, long long row) const {
        return mask_logits + (k * n_rows + row) * n_attributes;
    }
    __device__ float noise_of(long long k, long long row, int l) const {
        return noise[(k * n_rows + row) * n_latent + l];
    }
};

struct Shared {
    float total[kThreads], lost[kThreads];
    float log_weight[kMostSamples];
};

// Sum over the block's threads, which all get it.
__device__ Sum block_sum(const Sum& own, Shared& shared) {
    __syncthreads();
    shared.total[threadIdx.x] = own.total;
    shared.lost[threadIdx.x] = own.lost;
    for (int half = kThreads / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x >= half) continue;
        Sum sum, other;
        sum.total = shared.total[threadIdx.x], sum.lost = shared.lost[threadIdx.x];
        other.total = shared.total[threadIdx.x + half], other.lost = shared.lost[threadIdx.x + half];
        sum.add(other);
        shared.total[threadIdx.x] = sum.total;
        shared.lost[threadIdx.x] = sum.lost;
    }
    __syncthreads();
    Sum result;
    result.total = shared.total[0], result.lost = shared.lost[0];
    return result;
}

__device__ float softplus(float a) { return fmaxf(a, 0.0f) + log1pf(expf(-fabsf(a))); }

// (target - output)^2 + variance of a number.
__device__ float mean_square(const Elbo& e, long long at, float output) {
    const float residual = e.target[at] - output;
    return residual * residual + (e.variance ? e.variance[at] : 0.0f);
}

struct Softmax {
    float top, sum;

    __device__ Softmax(const float* logit, int width) : top(logit[0]), sum(0) {
        for (int c = 1; c < width; ++c) top = fmaxf(top, logit[c]);
        for (int c = 0; c < width; ++c) sum += expf(logit[c] - top);
    }
};

// This thread's share of the terms of log w_k.
__device__ Sum terms(const Elbo& e, int k, long long row) {
    Sum own;
    const float* output = e.outputs(k, row);
    const float* logits = e.logits(k, row);
    for (int c = threadIdx.x; c < e.n_columns; c += kThreads) {
        const int a = e.attribute[c];
        const float weight = e.weight[row * e.n_attributes + a];
        if (weight == 0 || e.kind[a] != kNumerical) continue;
        const float square = mean_square(e, row * e.n_columns + c, output[c]);
        own.add(weight * (-0.5f * square * expf(-2 * e.log_scale[c]) - e.log_scale[c] - kHalfLogTwoPi));
    }
    for (int a = threadIdx.x; a < e.n_attributes; a += kThreads) {
        const bool known = e.mask[row * e.n_attributes + a] > 0;
        own.add(-softplus(known ? -logits[a] : logits[a]));
        const float weight = e.weight[row * e.n_attributes + a];
        if (weight == 0 || e.kind[a] != kCategorical) continue;
        const int begin = e.start[a], width = e.start[a + 1] - begin;
        const float* target = e.target + row * e.n_columns + begin;
        const Softmax softmax(output + begin, width);
        float mass = 0, score = 0;
        for (int c = 0; c < width; ++c) {
            mass += target[c];
            score += target[c] * (output[begin + c] - softmax.top);
        }
        own.add(weight * (score - mass * logf(softmax.sum)));
    }
    if (!e.noise) return own;
    for (int l = threadIdx.x; l < e.n_latent; l += kThreads) {
        const float log_variance = e.log_variance[row * e.n_latent + l], noise = e.noise_of(k, row, l);
        const float z = e.mean[row * e.n_latent + l] + expf(0.5f * log_variance) * noise;
        own.add(0.5f * (noise * noise - z * z + log_variance));
    }
    return own;
}

// Log-weights into shared memory; returns the bound, and what they count relative to.
__device__ float bound_of(const Elbo& e, long long row, Shared& shared, float& top) {
    top = -3e38f;
    float first = 0;
    for (int k = 0; k < e.n_samples; ++k) {
        const Sum log_weight = block_sum(terms(e, k, row), shared);
        first = log_weight.total + log_weight.lost;
        top = fmaxf(top, first);
        if (threadIdx.x == 0) shared.log_weight[k] = first;
    }
    __syncthreads();
    if (e.noise) {
        float sum = 0;  // every thread adds all: the samples are few
        for (int k = 0; k < e.n_samples; ++k) sum += expf(shared.log_weight[k] - top);
        return top + logf(sum / e.n_samples);
    }
    Sum divergence;
    for (int l = threadIdx.x; l < e.n_latent; l += kThreads) {
        const float mean = e.mean[row * e.n_latent + l], log_variance = e.log_variance[row * e.n_latent + l];
        divergence.add(0.5f * (mean * mean + expm1f(log_variance) - log_variance));
    }
    const Sum all = block_sum(divergence, shared);
    return first - (all.total + all.lost);
}

// ---- gradients ------------------------------------------------------------------------------------------------------

struct Gradients {
    float* output;        // [K, N, D]
    float* log_scale;     // [N, D], to be added up over the rows
    float* mask_logits;   // [K, N, M]
    float* mean;          // [N, L]
    float* log_variance;  // [N, L]
};

// Numbers: a thread has a column of all samples.
__device__ void write_numbers(const Elbo& e, long long row, const float* factor, const Gradients& to) {
    for (int c = threadIdx.x; c < e.n_columns; c += kThreads) {
        const int a = e.attribute[c];
        const float weight = e.weight[row * e.n_attributes + a];
        const bool number = e.kind[a] == kNumerical;
        const bool counts = number && weight != 0;
        const float precision = counts ? expf(-2 * e.log_scale[c]) : 0.0f;
        const long long at = row * e.n_columns + c;
        Sum of_scale;
        for (int k = 0; k < e.n_samples; ++k) {
            const float output = e.outputs(k, row)[c];
            if (counts) of_scale.add(factor[k] * weight * (mean_square(e, at, output) * precision - 1));
            if (number || weight == 0)
                to.output[k * static_cast<long long>(e.n_rows) * e.n_columns + at] =
                    counts ? factor[k] * weight * (e.target[at] - output) * precision : 0.0f;
        }
        to.log_scale[at] = of_scale.total + of_scale.lost;
    }
}

// Levels and the mask: a thread has an attribute of a sample.
__device__ void write_attributes(const Elbo& e, long long row, const float* factor, const Gradients& to) {
    for (int i = threadIdx.x; i < e.n_samples * e.n_attributes; i += kThreads) {
        const int k = i / e.n_attributes, a = i % e.n_attributes;
        const long long sample_row = static_cast<long long>(k) * e.n_rows + row;
        const float known = e.mask[row * e.n_attributes + a] > 0 ? 1.0f : 0.0f;
        const float sigmoid = 1.0f / (1.0f + expf(-e.logits(k, row)[a]));
        to.mask_logits[sample_row * e.n_attributes + a] = factor[k] * (known - sigmoid);
        const float weight = e.weight[row * e.n_attributes + a];
        if (weight == 0 || e.kind[a] != kCategorical) continue;
        const int begin = e.start[a], width = e.start[a + 1] - begin;
        const float* target = e.target + row * e.n_columns + begin;
        const float* logit = e.outputs(k, row) + begin;
        const Softmax softmax(logit, width);
        float mass = 0;
        for (int c = 0; c < width; ++c) mass += target[c];
        for (int c = 0; c < width; ++c)
            to.output[sample_row * e.n_columns + begin + c] =
                factor[k] * weight * (target[c] - mass * expf(logit[c] - softmax.top) / softmax.sum);
    }
}

__device__ void write_proposal(const Elbo& e, long long row, const float* factor, const Gradients& to) {
    for (int l = threadIdx.x; l < e.n_latent; l += kThreads) {
        const long long at = row * e.n_latent + l;
        const float mean = e.mean[at], log_variance = e.log_variance[at];
        Sum of_mean, of_log_variance;
        for (int k = 0; k < e.n_samples; ++k) {
            if (e.noise) {
                const float deviation = expf(0.5f * log_variance) * e.noise_of(k, row, l), z = mean + deviation;
                of_mean.add(-factor[k] * z);
                of_log_variance.add(factor[k] * 0.5f * (1 - z * deviation));
            } else {
                of_mean.add(-factor[k] * mean);
                of_log_variance.add(-factor[k] * 0.5f * expm1f(log_variance));
            }
        }
        to.mean[at] = of_mean.total + of_mean.lost;
        to.log_variance[at] = of_log_variance.total + of_log_variance.lost;
    }
}

}  // namespace vsae

// Grid: rows.
extern "C" __global__ void __launch_bounds__(vsae::kThreads)
    elbo(int n_samples, int n_rows, int n_columns, int n_attributes, int n_latent, const int* attribute,
         const int* start, const int* kind, const float* log_scale, const float* output, const float* mask_logits,
         const float* target, const float* variance, const float* mask, const float* weight, const float* mean,
         const float* log_variance, const float* noise, float* bound) {
    using namespace vsae;
    __shared__ Shared shared;
    const Elbo e{n_samples, n_rows,      n_columns, n_attributes, n_latent, attribute, start, kind,         log_scale,
                 output,    mask_logits, target,    variance,     mask,     weight,    mean,  log_variance, noise};
    float top;
    const float value = bound_of(e, blockIdx.x, shared, top);
    if (threadIdx.x == 0) bound[blockIdx.x] = value;
}

// Grid: rows. `gradient` is that of the bounds.
extern "C" __global__ void __launch_bounds__(vsae::kThreads)
    elbo_backward(int n_samples, int n_rows, int n_columns, int n_attributes, int n_latent, const int* attribute,
                  const int* start, const int* kind, const float* log_scale, const float* output,
                  const float* mask_logits, const float* target, const float* variance, const float* mask,
                  const float* weight, const float* mean, const float* log_variance, const float* noise,
                  const float* gradient, float* of_output, float* of_log_scale, float* of_mask_logits, float* of_mean,
                  float* of_log_variance) {
    using namespace vsae;
    __shared__ Shared shared;
    const Elbo e{n_samples, n_rows,      n_columns, n_attributes, n_latent, attribute, start, kind,         log_scale,
                 output,    mask_logits, target,    variance,     mask,     weight,    mean,  log_variance, noise};
    const long long row = blockIdx.x;
    const float upstream = gradient[row];
    float top;
    if (e.noise) bound_of(e, row, shared, top);
    float sum = 0;
    if (e.noise)
        for (int k = 0; k < n_samples; ++k) sum += expf(shared.log_weight[k] - top);
    __syncthreads();
    // The derivative of the bound by each log-weight.
    for (int k = threadIdx.x; k < n_samples; k += kThreads)
        shared.log_weight[k] = e.noise ? upstream * expf(shared.log_weight[k] - top) / sum : upstream;
    __syncthreads();
    const Gradients to{of_output, of_log_scale, of_mask_logits, of_mean, of_log_variance};
    write_numbers(e, row, shared.log_weight, to);
    write_attributes(e, row, shared.log_weight, to);
    write_proposal(e, row, shared.log_weight, to);
}
