// propose for CUDA devices of compute capability 6.0 and up, float32: the proposal networks of a tile of rows.
//
// Block i of a row's latents comes from attribute i's own network where it is observed and from the collective one
// where it is not (Gong et al. 2021, section 3.2). Compiled at run time for one model: vsae_fast/cuda/propose.py writes
// its shapes as constants of namespace vsae::model in front of this file. A block of threads takes kTile rows through
// every layer with their activations in shared memory; the collective network's input, the observed data with its holes
// filled and the mask behind it, exists nowhere else.
#include "core/training_step.h"
#include "cuda/dense.h"

namespace vsae {

using namespace model;

// ---- shapes ---------------------------------------------------------------------------------------------------------

constexpr int kBodyLayerCount = sizeof(kBodyLayers) / sizeof(Layer);
constexpr int kInputs = kColumns + kAttributes;
constexpr int kHidden = kBodyLayers[kBodyLayerCount - 1].n_out;  // H
constexpr int kLatents = kAttributes * kLatent;                  // L; kLatent are those of one attribute

constexpr int at_least(int a, int b) { return a > b ? a : b; }

// The collective input stands in a place of its own; layers write to buffers 0, 1, 0, ... What reads the last hidden
// vector (head and context) writes to the buffer that does not hold it. Own networks read from buffer 1 first.
constexpr int kHiddenBuffer = (kBodyLayerCount - 1) % 2;
constexpr int widest(int buffer) {
    int width = 0;
    for (int i = 0; i < kBodyLayerCount; ++i)
        if (i % 2 == buffer) width = at_least(width, kBodyLayers[i].n_out);
    if (kHiddenBuffer != buffer) width = at_least(width, at_least(2 * kLatents, kContext));
    for (const Group& group : kGroups) {
        if (buffer == 1) width = at_least(width, group.width);
        for (int i = 0; i < group.n_layers; ++i)
            if (i % 2 == buffer) width = at_least(width, kOwnLayers[group.first_layer + i].n_out);
    }
    return width;
}

// Shared memory, in floats.
constexpr int kInput = 0;  // [D + M, tile]
constexpr int kBuffer0 = kInput + kInputs * kTile;
constexpr int kBuffer1 = kBuffer0 + widest(0) * kTile;
constexpr int kWeights = kBuffer1 + widest(1) * kTile;  // chunk of a layer
constexpr int kSharedFloats = kWeights + kChunkFloats;
static_assert(kSharedFloats * sizeof(float) <= 48 * 1024, "the model does not fit the shared memory of every device");

struct Call {
    int n_rows, n_proposals;
    const float* parameters;
    const int* start;   // [M + 1] first column of each attribute
    const int* member;  // attributes of the groups, one group after the other
    const float* x;     // [N, D], not read where unobserved
    const float* mask;  // [N, M]
    const float* fill;  // [P, D] in the holes, or null for zeros
    float* mean;        // [N, P, L]
    float* scale;
    float* context;  // [N, P, C]
};

// ---- what a block does ----------------------------------------------------------------------------------------------

__device__ float standard_deviation(float log_variance) {
    return expf(0.5f * fminf(fmaxf(log_variance, -kLogVarianceLimit), kLogVarianceLimit));
}

__device__ bool observed(const Call& call, long long row, int attribute) {
    return row < call.n_rows && call.mask[row * kAttributes + attribute] > 0;
}

template <int kIndex>
__device__ void run_body(const Call& call, float* shared) {
    if constexpr (kIndex < kBodyLayerCount) {
        constexpr Layer layer = kBodyLayers[kIndex];
        constexpr int kFrom = kIndex == 0 ? kInput : (kIndex - 1) % 2 == 0 ? kBuffer0 : kBuffer1;
        constexpr int kTo = kIndex % 2 == 0 ? kBuffer0 : kBuffer1;
        Dense<kTile>::layer<layer.n_in, layer.n_out, layer.active>(call.parameters + layer.weight,
                                                                   call.parameters + layer.bias, kSlope, shared + kFrom,
                                                                   shared + kTo, shared + kWeights);
        run_body<kIndex + 1>(call, shared);
    }
}

// Layers of a group's member; weights of its other members stand before and after.
template <int kGroup, int kIndex>
__device__ void run_own_layers(const Call& call, int member, float* shared) {
    constexpr Group group = kGroups[kGroup];
    if constexpr (kIndex < group.n_layers) {
        constexpr Layer layer = kOwnLayers[group.first_layer + kIndex];
        constexpr int kFrom = kIndex % 2 == 0 ? kBuffer1 : kBuffer0;
        constexpr int kTo = kIndex % 2 == 0 ? kBuffer0 : kBuffer1;
        Dense<kTile>::layer<layer.n_in, layer.n_out, layer.active>(
            call.parameters + layer.weight + member * layer.n_in * layer.n_out,
            call.parameters + layer.bias + member * layer.n_out, kSlope, shared + kFrom, shared + kTo,
            shared + kWeights);
        run_own_layers<kGroup, kIndex + 1>(call, member, shared);
    }
}

// Writes an attribute's block of the rows where `wanted`; means and log-variances stand in `from` as [2, latent, tile]
// with `distance` rows from a mean to its log-variance.
template <bool kObserved>
__device__ void write(const Call& call, long long first_row, int proposal, int attribute, const float* from,
                      int distance) {
    for (int i = threadIdx.x; i < kLatent * kTile; i += kThreads) {
        const int l = i / kTile, r = i % kTile;
        const long long row = first_row + r;
        if (row >= call.n_rows || observed(call, row, attribute) != kObserved) continue;
        const long long at = (row * call.n_proposals + proposal) * kLatents + attribute * kLatent + l;
        call.mean[at] = from[l * kTile + r];
        call.scale[at] = standard_deviation(from[(distance + l) * kTile + r]);
    }
}

template <int kGroup>
__device__ void run_own(const Call& call, long long first_row, float* shared) {
    if constexpr (kGroup < sizeof(kGroups) / sizeof(Group)) {
        constexpr Group group = kGroups[kGroup];
        for (int member = 0; member < group.n_members; ++member) {
            const int attribute = call.member[group.first_member + member];
            const int start = call.start[attribute], width = call.start[attribute + 1] - start;
            __syncthreads();  // the member before has been written
            for (int i = threadIdx.x; i < group.width * kTile; i += kThreads) {
                const int c = i / kTile;
                const long long row = first_row + i % kTile;
                const bool known = c < width && observed(call, row, attribute);
                shared[kBuffer1 + i] = known ? call.x[row * kColumns + start + c] : 0.0f;
            }
            run_own_layers<kGroup, 0>(call, member, shared);
            __syncthreads();
            constexpr int kOut = group.n_layers % 2 == 1 ? kBuffer0 : kBuffer1;
            for (int proposal = 0; proposal < call.n_proposals; ++proposal)
                write<true>(call, first_row, proposal, attribute, shared + kOut, kLatent);
        }
        run_own<kGroup + 1>(call, first_row, shared);
    }
}

// The observed data, `fill` or zeros in its holes, and the mask (op fill_unobserved).
__device__ void fill_unobserved(const Call& call, long long first_row, int proposal, float* shared) {
    for (int i = threadIdx.x; i < kAttributes * kTile; i += kThreads) {
        const int a = i / kTile, r = i % kTile;
        const long long row = first_row + r;
        const bool known = observed(call, row, a);
        for (int c = call.start[a]; c < call.start[a + 1]; ++c) {
            const float hole = call.fill ? call.fill[static_cast<long long>(proposal) * kColumns + c] : 0.0f;
            shared[kInput + c * kTile + r] = known ? call.x[row * kColumns + c] : hole;
        }
        shared[kInput + (kColumns + a) * kTile + r] = row < call.n_rows ? call.mask[row * kAttributes + a] : 0.0f;
    }
}

__device__ void run_collective(const Call& call, long long first_row, int proposal, float* shared) {
    constexpr int kFrom = kHiddenBuffer == 0 ? kBuffer0 : kBuffer1;
    constexpr int kTo = kHiddenBuffer == 0 ? kBuffer1 : kBuffer0;
    __syncthreads();  // the proposal before, or the own networks, have been written
    fill_unobserved(call, first_row, proposal, shared);
    run_body<0>(call, shared);
    Dense<kTile>::layer<kHidden, 2 * kLatents, false>(call.parameters + kHeadWeight, call.parameters + kHeadBias,
                                                      kSlope, shared + kFrom, shared + kTo, shared + kWeights);
    __syncthreads();
    for (int a = 0; a < kAttributes; ++a)
        write<false>(call, first_row, proposal, a, shared + kTo + a * kLatent * kTile, kLatents);
    if constexpr (kContext > 0) {
        __syncthreads();
        Dense<kTile>::layer<kHidden, kContext, false>(call.parameters + kContextWeight, nullptr, kSlope, shared + kFrom,
                                                      shared + kTo, shared + kWeights);
        __syncthreads();
        for (int i = threadIdx.x; i < kContext * kTile; i += kThreads) {
            const int c = i % kContext, r = i / kContext;  // neighbouring threads write neighbouring floats
            const long long row = first_row + r;
            if (row < call.n_rows)
                call.context[(row * call.n_proposals + proposal) * kContext + c] = shared[kTo + c * kTile + r];
        }
    }
}

}  // namespace vsae

// Grid: tiles of rows.
extern "C" __global__ void __launch_bounds__(vsae::kThreads, 4)
    propose(int n_rows, int n_proposals, const float* parameters, const int* start, const int* member, const float* x,
            const float* mask, const float* fill, float* mean, float* scale, float* context) {
    using namespace vsae;
    __shared__ __align__(16) float shared[kSharedFloats];
    const Call call{n_rows, n_proposals, parameters, start, member, x, mask, fill, mean, scale, context};
    const long long first_row = static_cast<long long>(blockIdx.x) * kTile;
    run_own<0>(call, first_row, shared);
    for (int proposal = 0; proposal < n_proposals; ++proposal) run_collective(call, first_row, proposal, shared);
}
