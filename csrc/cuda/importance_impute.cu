// importance_impute for CUDA devices of compute capability 6.0 and up, float32.
//
// Compiled at run time for one model: vsae_fast/cuda/importance_impute.py writes its shapes as constants of namespace
// vsae::model in front of this file. A block of threads takes a row, or a run of a row's samples where rows are few;
// the samples go by tiles whose activations live in shared memory, and of a row nothing but its result is written.
// Runs of samples leave (reference, sums), which merge_importance_impute puts together.
#include "core/importance_impute.h"
#include "cuda/decoders.h"
#include "cuda/sum.h"

namespace vsae {

using namespace model;

// ---- shapes ---------------------------------------------------------------------------------------------------------

constexpr int kSlices = kThreads / kTile;        // threads that share a sample's likelihood terms
constexpr int kPartial = 3 + kHidden + kLogits;  // floats that a run of samples leaves
constexpr int kBlocksPerProcessor = 4;           // caps registers at 128 a thread
static_assert(kThreads % kTile == 0, "every sample needs a whole number of threads");

// Shared memory, in floats.
struct Place : DecoderPlace {
    static constexpr int kTotal = kEnd;  // log-weights of the tile, by slices
    static constexpr int kLost = kTotal + kThreads;
    static constexpr int kWeight = kLost + kThreads;
    static constexpr int kReduce = kWeight + kTile;
    static constexpr int kScoredAt = kReduce + kThreads;         // scored numbers of observed attributes, as int
    static constexpr int kLevel = kScoredAt + rounded(kScored);  // observed level of each attribute, or -1, as int
    static constexpr int kObserved = kLevel + rounded(kAttributes);
    static constexpr int kSums = kObserved + rounded(kAttributes);  // [H], then [logits]
    static constexpr int kFloats = kSums + rounded(kHidden + kLogits);
};
static_assert(Place::kFloats * sizeof(float) <= 48 * 1024, "the model does not fit the shared memory of every device");

// ---- the inputs and outputs of a call -------------------------------------------------------------------------------

struct Call {
    int n_rows, n_samples, n_proposals, n_splits;
    float visible_weight;
    const float* parameters;  // weights and biases
    const int* scored;        // [M + 1] first scored number of each attribute
    const float* target;      // [N, scored] what they should be; not read where the attribute is unobserved
    const int* start;         // [M + 1] first column of each attribute
    const int* kind;          // [M]
    const int* first;         // [M] first of the attribute's numbers, or of its logits
    const float* noise;       // [L, K]
    const float* mean;        // [N, P, L]
    const float* scale;
    const float* context;  // [N, P, C] or null
    const float* x;        // [N, D]
    const float* mask;     // [N, M]
    float* imputed;        // [N, D]
    double* log_evidence;  // without what does not change with the samples
    double* effective_size;
    float* partial;     // [N, splits, kPartial]; not touched where there is one split
    float* log_weight;  // [N, K] or null: every sample's, up to a constant of the row
};

// ---- what a block does ----------------------------------------------------------------------------------------------

struct Accumulators {
    float reference;   // log-weights count relative to it
    float weight_sum;  // of this thread's samples
    float square_sum;
};

__device__ float block_sum(float value, float* reduce) {
    const int thread = threadIdx.x;
    __syncthreads();
    reduce[thread] = value;
    for (int half = kThreads / 2; half > 0; half /= 2) {
        __syncthreads();
        if (thread < half) reduce[thread] += reduce[thread + half];
    }
    __syncthreads();
    return reduce[0];
}

__device__ float softplus(float a) { return fmaxf(a, 0.0f) + log1pf(expf(-fabsf(a))); }

// What does not change within a row. Returns how many scored numbers are observed; all threads get the same.
__device__ int prepare_row(const Call& call, long long row, float* shared) {
    const float* x = call.x + row * kColumns;
    const float* mask = call.mask + row * kAttributes;
    int* scored = reinterpret_cast<int*>(shared + Place::kScoredAt);
    int* level = reinterpret_cast<int*>(shared + Place::kLevel);
    __syncthreads();
    for (int a = threadIdx.x; a < kAttributes; a += kThreads) {
        shared[Place::kObserved + a] = mask[a];
        level[a] = -1;
        if (mask[a] > 0 && call.kind[a] == kCategorical)
            for (int c = call.start[a]; c < call.start[a + 1]; ++c)
                if (x[c] > 0) level[a] = c - call.start[a];
    }
    for (int i = threadIdx.x; i < kHidden + kLogits; i += kThreads) shared[Place::kSums + i] = 0;
    __syncthreads();
    int count = 0;  // every thread counts all; one writes each
    for (int a = 0; a < kAttributes; ++a) {
        if (shared[Place::kObserved + a] <= 0) continue;
        const int own = call.scored[a + 1] - call.scored[a];
        for (int i = threadIdx.x; i < own; i += kThreads) scored[count + i] = call.scored[a] + i;
        count += own;
    }
    __syncthreads();
    return count;
}

// What does not change within a proposal; returns the constant of its log-weights.
__device__ float prepare_proposal(const Call& call, long long row, int proposal, float* shared) {
    const long long at = row * call.n_proposals + proposal;
    float constant = 0;
    __syncthreads();
    for (int l = threadIdx.x; l < kLatent; l += kThreads) {
        const float mean = call.mean[at * kLatent + l], scale = call.scale[at * kLatent + l];
        shared[Place::kMean + l] = mean;
        shared[Place::kScale + l] = scale;
        constant += logf(scale) - 0.5f * mean * mean;
    }
    const float* context = call.context ? call.context + at * kDataLayers[0].n_out : nullptr;
    prepare_row_bias<Place>(call.parameters, context, shared);
    return block_sum(constant, shared + Place::kReduce);
}

// Log-likelihood terms of this thread's share (its sample, every kSlices-th term).
__device__ void score_numbers(const Call& call, long long row, int count, int sample, int slice, float* shared,
                              Sum& own) {
    if constexpr (kScored > 0) {
        constexpr int kOutputs = Dense<kTile>::outputs_at_once<kScored>();
        const int* scored = reinterpret_cast<const int*>(shared + Place::kScoredAt);
        for (int first = 0; first < count; first += kOutputs) {
            Dense<kTile>::tile<kHidden, kScored, false>(call.parameters + kScoredWeight, kScored, nullptr, scored,
                                                        first, count, kSlope, shared + kLastHidden<Place>,
                                                        shared + kFreeBuffer<Place>, shared + Place::kWeights);
            __syncthreads();
            const int n = count - first < kOutputs ? count - first : kOutputs;
            for (int i = slice; i < n; i += kSlices) {
                const int number = scored[first + i];
                const float target = call.target[row * kScored + number];
                const float distance = (target - shared[kFreeBuffer<Place> + i * kTile + sample]) *
                                       call.parameters[kScoredInverseScale + number];
                own.add(-0.5f * call.visible_weight * distance * distance);
            }
        }
    }
}

// Categories: log-probabilities of observed levels; the logits of unobserved attributes become probabilities.
__device__ void score_levels(const Call& call, int sample, int slice, float* shared, Sum& own) {
    if constexpr (kLogits > 0) {
        Dense<kTile>::layer<kHidden, kLogits, false>(call.parameters + kLogitWeight, call.parameters + kLogitBias,
                                                     kSlope, shared + kLastHidden<Place>, shared + kFreeBuffer<Place>,
                                                     shared + Place::kWeights);
        __syncthreads();
        const int* level = reinterpret_cast<const int*>(shared + Place::kLevel);
        for (int a = slice; a < kAttributes; a += kSlices) {
            if (call.kind[a] != kCategorical) continue;
            float* logit = shared + kFreeBuffer<Place> + call.first[a] * kTile + sample;
            const int width = call.start[a + 1] - call.start[a];
            float top = logit[0], sum = 0;
            for (int c = 1; c < width; ++c) top = fmaxf(top, logit[c * kTile]);
            for (int c = 0; c < width; ++c) sum += expf(logit[c * kTile] - top);
            if (level[a] >= 0)
                own.add(call.visible_weight * (logit[level[a] * kTile] - top - logf(sum)));
            else
                for (int c = 0; c < width; ++c) logit[c * kTile] = expf(logit[c * kTile] - top) / sum;
        }
    }
}

// Samples first..first+kTile-1 of a proposal, of which `count` exist.
__device__ void run_tile(const Call& call, long long row, int first, int count, int n_observed, float constant,
                         float* shared, Accumulators& sums) {
    const int sample = threadIdx.x % kTile, slice = threadIdx.x / kTile;
    const bool real = sample < count;
    Sum own;
    __syncthreads();
    for (int l = slice; l < kLatent; l += kSlices) {
        const float mean = shared[Place::kMean + l], scale = shared[Place::kScale + l];
        const float e = real ? call.noise[static_cast<long long>(l) * call.n_samples + first + sample] : 0.0f;
        shared[Place::kInput + l * kTile + sample] = mean + scale * e;
        // (e^2 - z^2) / 2 without what does not change within the proposal
        own.add(e * ((0.5f - 0.5f * scale * scale) * e - mean * scale));
    }
    run_mask_layers<Place>(call.parameters, shared);
    __syncthreads();
    for (int a = slice; a < kAttributes; a += kSlices) {
        float* logit = shared + Place::kInput + (kLatent + a) * kTile + sample;
        own.add(-softplus(shared[Place::kObserved + a] > 0 ? -*logit : *logit));
        *logit = 1.0f / (1.0f + expf(-*logit));
    }
    run_data_layers<Place>(call.parameters, shared);
    score_numbers(call, row, n_observed, sample, slice, shared, own);
    score_levels(call, sample, slice, shared, own);

    __syncthreads();
    shared[Place::kTotal + threadIdx.x] = own.total;
    shared[Place::kLost + threadIdx.x] = own.lost;
    __syncthreads();
    if (slice == 0) {
        Sum all;
        all.add(constant);
        for (int other = 0; other < kSlices; ++other) {
            Sum part;
            part.total = shared[Place::kTotal + other * kTile + sample];
            part.lost = shared[Place::kLost + other * kTile + sample];
            all.add(part);
        }
        own = all;
        // Finite however small, so that a row whose samples all underflow has weights, too.
        shared[Place::kWeight + sample] = real ? fmaxf(all.total, -3e38f) : -3.4e38f;
        if (call.log_weight && real)
            call.log_weight[row * call.n_samples + first + sample] = fmaxf(all.total + all.lost, -3e38f);
    }
    __syncthreads();
    float top = sums.reference;
    for (int s = 0; s < kTile; s += 4) {
        const float4 four = *reinterpret_cast<const float4*>(shared + Place::kWeight + s);
        top = fmaxf(top, fmaxf(fmaxf(four.x, four.y), fmaxf(four.z, four.w)));
    }
    const float factor = expf(sums.reference - top);
    sums.reference = top;
    __syncthreads();
    if (slice == 0) {
        const float weight = real ? expf(fminf(own.relative_to(top), 80.0f)) : 0.0f;
        shared[Place::kWeight + sample] = weight;
        sums.weight_sum = factor * sums.weight_sum + weight;
        sums.square_sum = factor * factor * sums.square_sum + weight * weight;
    }
    __syncthreads();
    for (int j = threadIdx.x; j < kHidden + kLogits; j += kThreads) {
        const float* value =
            shared + (j < kHidden ? kLastHidden<Place> + j * kTile : kFreeBuffer<Place> + (j - kHidden) * kTile);
        float sum = factor * shared[Place::kSums + j];
#pragma unroll 4
        for (int s = 0; s < kTile; ++s) {
            const int at = (s + j) % kTile;  // neighbouring threads read neighbouring banks
            sum += shared[Place::kWeight + at] * value[at];
        }
        shared[Place::kSums + j] = sum;
    }
}

// The row's results from its sums; `weight_sum` and `square_sum` are those of the whole block.
__device__ void finish(const Call& call, long long row, float reference, float weight_sum, float square_sum,
                       const float* sums) {
    const float* mask = call.mask + row * kAttributes;
    for (int a = 0; a < kAttributes; ++a) {
        const int begin = call.start[a], width = call.start[a + 1] - begin;
        for (int i = threadIdx.x; i < width; i += kThreads) {
            const long long at = row * kColumns + begin + i;
            float value;
            if (mask[a] > 0) {
                value = call.x[at];
            } else if (call.kind[a] == kCategorical) {
                value = sums[kHidden + call.first[a] + i] / weight_sum;
            } else {
                const int number = call.first[a] + i;
                float sum = 0;
                for (int j = 0; j < kHidden; ++j)
                    sum += call.parameters[kNumberWeight + j * kNumbers + number] * sums[j];
                value = call.parameters[kNumberBias + number] + sum / weight_sum;
            }
            call.imputed[at] = value;
        }
    }
    if (threadIdx.x == 0) {
        call.log_evidence[row] =
            reference + log(static_cast<double>(weight_sum)) - log(static_cast<double>(call.n_samples));
        call.effective_size[row] = static_cast<double>(weight_sum) * weight_sum / square_sum;
    }
}

}  // namespace vsae

// Grid: rows, splits. `partial` may be null where there is one split of all samples (segment 0). Otherwise splits are
// segments of so many samples of each proposal, from `first_sample` on, and their sums stay in `partial`.
extern "C" __global__ void __launch_bounds__(vsae::kThreads, vsae::kBlocksPerProcessor)
    importance_impute(int n_rows, int n_samples, int n_proposals, int n_splits, int first_sample, int segment,
                      float visible_weight, const float* parameters, const int* scored, const float* target,
                      const int* start, const int* kind, const int* first, const float* noise, const float* mean,
                      const float* scale, const float* context, const float* x, const float* mask, float* imputed,
                      double* log_evidence, double* effective_size, float* partial, float* log_weight) {
    using namespace vsae;
    __shared__ __align__(16) float shared[Place::kFloats];
    const Call call{n_rows, n_samples, n_proposals,  n_splits,       visible_weight, parameters, scored,  target,
                    start,  kind,      first,        noise,          mean,           scale,      context, x,
                    mask,   imputed,   log_evidence, effective_size, partial,        log_weight};
    const long long row = blockIdx.x;
    const int split = blockIdx.y;
    const int per_proposal = n_samples / n_proposals;
    // A split takes an equal run of all proposals' tiles, or a segment of each proposal.
    const int from = segment > 0 ? first_sample + split * segment : 0;
    const int length = segment > 0 ? segment : per_proposal;
    const int tiles = (length + kTile - 1) / kTile;  // of a proposal
    const int all = tiles * n_proposals;
    const int begin = segment > 0 ? 0 : static_cast<int>(static_cast<long long>(all) * split / n_splits);
    const int end = segment > 0 ? all : static_cast<int>(static_cast<long long>(all) * (split + 1) / n_splits);

    const int n_observed = prepare_row(call, row, shared);
    Accumulators sums{-3e38f, 0, 0};
    float constant = 0;
    for (int tile = begin; tile < end; ++tile) {
        const int proposal = tile / tiles, within = tile % tiles * kTile;
        if (tile == begin || within == 0) constant = prepare_proposal(call, row, proposal, shared);
        const int left = length - within;
        run_tile(call, row, proposal * per_proposal + from + within, left < kTile ? left : kTile, n_observed, constant,
                 shared, sums);
    }
    const float weight_sum = block_sum(sums.weight_sum, shared + Place::kReduce);
    const float square_sum = block_sum(sums.square_sum, shared + Place::kReduce);
    if (n_splits == 1 && segment == 0)
        return finish(call, row, sums.reference, weight_sum, square_sum, shared + Place::kSums);
    float* to = partial + (row * n_splits + split) * kPartial;
    for (int j = threadIdx.x; j < kHidden + kLogits; j += kThreads) to[3 + j] = shared[Place::kSums + j];
    if (threadIdx.x == 0) {
        to[0] = sums.reference;
        to[1] = weight_sum;
        to[2] = square_sum;
    }
}

// Grid: rows.
extern "C" __global__ void __launch_bounds__(vsae::kThreads)
    merge_importance_impute(int n_samples, int n_splits, const float* parameters, const int* start, const int* kind,
                            const int* first, const float* x, const float* mask, float* imputed, double* log_evidence,
                            double* effective_size, const float* partial) {
    using namespace vsae;
    __shared__ float sums[kHidden + kLogits];
    const Call call{
        0,       n_samples, 0,       n_splits, 0, parameters, nullptr, nullptr,      start,          kind,    first,
        nullptr, nullptr,   nullptr, nullptr,  x, mask,       imputed, log_evidence, effective_size, nullptr, nullptr};
    const long long row = blockIdx.x;
    const float* of_row = partial + row * n_splits * kPartial;
    float reference = of_row[0];
    for (int split = 1; split < n_splits; ++split) reference = fmaxf(reference, of_row[split * kPartial]);
    float weight_sum = 0, square_sum = 0;
    for (int split = 0; split < n_splits; ++split) {
        const float* part = of_row + split * kPartial;
        const float factor = expf(part[0] - reference);
        weight_sum += factor * part[1];
        square_sum += factor * factor * part[2];
    }
    for (int j = threadIdx.x; j < kHidden + kLogits; j += kThreads) {
        float sum = 0;
        for (int split = 0; split < n_splits; ++split)
            sum += expf(of_row[split * kPartial] - reference) * of_row[split * kPartial + 3 + j];
        sums[j] = sum;
    }
    __syncthreads();
    finish(call, row, reference, weight_sum, square_sum, sums);
}
