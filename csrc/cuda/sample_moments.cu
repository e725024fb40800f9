// sample_moments for CUDA devices of compute capability 6.0 and up, float32: the sums of E[x | z] over samples of z.
//
// Compiled at run time for one model, as importance_impute.cu is. A block of threads takes a row; its samples go by
// tiles whose activations live in shared memory, and of a row nothing but its result is written.
#include "core/importance_impute.h"
#include "cuda/decoders.h"

namespace vsae {

using namespace model;

constexpr int kSlices = kThreads / kTile;  // threads that share a sample
static_assert(kThreads % kTile == 0, "every sample needs a whole number of threads");

// Shared memory, in floats.
struct Place : DecoderPlace {
    static constexpr int kTotal = kEnd;                                   // [numbers], [logits]
    static constexpr int kSquare = kTotal + rounded(kNumbers + kLogits);  // [numbers]
    static constexpr int kFloats = kSquare + rounded(kNumbers);
};
static_assert(Place::kFloats * sizeof(float) <= 48 * 1024, "the model does not fit the shared memory of every device");

// Outputs of the tile's `count` samples, without their bias: it shifts the mean alone.
__device__ void add_numbers(const float* parameters, int count, float* shared) {
    if constexpr (kNumbers > 0) {
        constexpr int kOutputs = Dense<kTile>::outputs_at_once<kNumbers>();
        constexpr int kFree = kFreeBuffer<Place>;
        for (int first = 0; first < kNumbers; first += kOutputs) {
            Dense<kTile>::tile<kHidden, kNumbers, false>(parameters + kNumberWeight, kNumbers, nullptr, nullptr, first,
                                                         kNumbers, kSlope, shared + kLastHidden<Place>, shared + kFree,
                                                         shared + Place::kWeights);
            __syncthreads();
            const int n = kNumbers - first < kOutputs ? kNumbers - first : kOutputs;
            for (int i = threadIdx.x; i < n; i += kThreads) {
                float total = 0, square = 0;
                for (int s = 0; s < kTile; ++s) {
                    const int at = (s + i) % kTile;  // neighbouring threads read neighbouring banks
                    const float value = at < count ? shared[kFree + i * kTile + at] : 0.0f;
                    total += value;
                    square += value * value;
                }
                shared[Place::kTotal + first + i] += total;
                shared[Place::kSquare + first + i] += square;
            }
        }
    }
}

__device__ void add_probabilities(const float* parameters, const int* start, const int* kind, const int* first,
                                  int count, float* shared) {
    if constexpr (kLogits > 0) {
        constexpr int kFree = kFreeBuffer<Place>;
        const int sample = threadIdx.x % kTile, slice = threadIdx.x / kTile;
        __syncthreads();  // the numbers have been added
        Dense<kTile>::layer<kHidden, kLogits, false>(parameters + kLogitWeight, parameters + kLogitBias, kSlope,
                                                     shared + kLastHidden<Place>, shared + kFree,
                                                     shared + Place::kWeights);
        __syncthreads();
        for (int a = slice; a < kAttributes; a += kSlices) {
            if (kind[a] != kCategorical) continue;
            float* logit = shared + kFree + first[a] * kTile + sample;
            const int width = start[a + 1] - start[a];
            float top = logit[0], sum = 0;
            for (int c = 1; c < width; ++c) top = fmaxf(top, logit[c * kTile]);
            for (int c = 0; c < width; ++c) sum += logit[c * kTile] = expf(logit[c * kTile] - top);
            for (int c = 0; c < width; ++c) logit[c * kTile] /= sum;
        }
        __syncthreads();
        for (int i = threadIdx.x; i < kLogits; i += kThreads) {
            float total = 0;
            for (int s = 0; s < kTile; ++s) {
                const int at = (s + i) % kTile;
                total += at < count ? shared[kFree + i * kTile + at] : 0.0f;
            }
            shared[Place::kTotal + kNumbers + i] += total;
        }
    }
}

}  // namespace vsae

// Grid: rows. `moment` and `spread` are the mean of E[x | z] and its variance over the samples; the latter is 0 in
// categorical columns. `column` and `first` as in importance_impute.
extern "C" __global__ void __launch_bounds__(vsae::kThreads, 4)
    sample_moments(int n_rows, int n_samples, const float* parameters, const int* column, const int* start,
                   const int* kind, const int* first, const float* noise, const float* mean, const float* scale,
                   const float* context, float* moment, float* spread) {
    using namespace vsae;
    __shared__ __align__(16) float shared[Place::kFloats];
    const long long row = blockIdx.x;
    for (int l = threadIdx.x; l < kLatent; l += kThreads) {
        shared[Place::kMean + l] = mean[row * kLatent + l];
        shared[Place::kScale + l] = scale[row * kLatent + l];
    }
    for (int i = threadIdx.x; i < kNumbers + kLogits; i += kThreads) shared[Place::kTotal + i] = 0;
    for (int i = threadIdx.x; i < kNumbers; i += kThreads) shared[Place::kSquare + i] = 0;
    prepare_row_bias<Place>(parameters, context ? context + row * kDataLayers[0].n_out : nullptr, shared);

    const int sample = threadIdx.x % kTile, slice = threadIdx.x / kTile;
    for (int begin = 0; begin < n_samples; begin += kTile) {
        const int left = n_samples - begin, count = left < kTile ? left : kTile;
        __syncthreads();
        for (int l = slice; l < kLatent; l += kSlices) {
            const long long at = ((static_cast<long long>(begin) + sample) * n_rows + row) * kLatent + l;
            const float e = sample < count ? noise[at] : 0.0f;
            shared[Place::kInput + l * kTile + sample] = shared[Place::kMean + l] + shared[Place::kScale + l] * e;
        }
        run_mask_layers<Place>(parameters, shared);
        __syncthreads();
        for (int a = slice; a < kAttributes; a += kSlices) {
            float* logit = shared + Place::kInput + (kLatent + a) * kTile + sample;
            *logit = 1.0f / (1.0f + expf(-*logit));
        }
        run_data_layers<Place>(parameters, shared);
        add_numbers(parameters, count, shared);
        add_probabilities(parameters, start, kind, first, count, shared);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < kNumbers; i += kThreads) {
        const float average = shared[Place::kTotal + i] / n_samples;
        moment[row * kColumns + column[i]] = parameters[kNumberBias + i] + average;
        spread[row * kColumns + column[i]] = fmaxf(shared[Place::kSquare + i] / n_samples - average * average, 0.0f);
    }
    for (int a = 0; a < kAttributes; ++a) {
        if (kind[a] != kCategorical) continue;
        for (int i = threadIdx.x; i < start[a + 1] - start[a]; i += kThreads) {
            moment[row * kColumns + start[a] + i] = shared[Place::kTotal + kNumbers + first[a] + i] / n_samples;
            spread[row * kColumns + start[a] + i] = 0;
        }
    }
}
