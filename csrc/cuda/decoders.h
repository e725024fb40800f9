// Both decoders over a tile of samples: z in shared memory to mask logits and the data decoder's last hidden vectors
// there.
//
// Needs the shapes of a model, which vsae_fast/cuda/importance_impute.py writes as constants of namespace vsae::model.
// `Place` says where things stand in shared memory, in floats: kInput (the latents, then the mask logits, which are the
// data decoder's input once they have become probabilities), kBuffer0, kBuffer1, kRowBias (of the first data layer) and
// kWeights. Layers write to buffers 0, 1, 0, ...; the mask decoder's last writes beside the latents.
#pragma once

#include "cuda/dense.h"

namespace vsae {

inline constexpr int kMaskLayerCount = sizeof(model::kMaskLayers) / sizeof(Layer);
inline constexpr int kDataLayerCount = sizeof(model::kDataLayers) / sizeof(Layer);
inline constexpr int kHidden = model::kDataLayers[kDataLayerCount - 1].n_out;  // H

constexpr int at_least(int a, int b) { return a > b ? a : b; }
constexpr int rounded(int floats) { return (floats + 3) / 4 * 4; }  // whole float4

// Rows of a buffer: for the layers, and for outputs and logits in the one that does not hold the last hidden vector.
constexpr int buffer_rows(int buffer) {
    int width = 0;
    for (int i = 0; i + 1 < kMaskLayerCount; ++i)
        if (i % 2 == buffer) width = at_least(width, model::kMaskLayers[i].n_out);
    for (int i = 0; i < kDataLayerCount; ++i)
        if (i % 2 == buffer) width = at_least(width, model::kDataLayers[i].n_out);
    if (kDataLayerCount % 2 == buffer) {
        width = at_least(width, model::kLogits);
        if (model::kNumbers) width = at_least(width, Dense<model::kTile>::outputs_at_once<model::kNumbers>());
    }
    return width;
}

// Where things stand in shared memory, in floats; a kernel's own things come from kEnd on.
struct DecoderPlace {
    static constexpr int kInput = 0;  // [L + M, tile]: latents, then mask logits, then probabilities
    static constexpr int kBuffer0 = kInput + (model::kLatent + model::kAttributes) * model::kTile;
    static constexpr int kBuffer1 = kBuffer0 + buffer_rows(0) * model::kTile;
    static constexpr int kWeights = kBuffer1 + buffer_rows(1) * model::kTile;  // chunk of a layer
    static constexpr int kRowBias = kWeights + kChunkFloats;  // of the first data layer, the context in it
    static constexpr int kMean = kRowBias + rounded(model::kDataLayers[0].n_out);
    static constexpr int kScale = kMean + rounded(model::kLatent);
    static constexpr int kEnd = kScale + rounded(model::kLatent);
};

template <class Place>
inline constexpr int kLastHidden = (kDataLayerCount - 1) % 2 == 0 ? Place::kBuffer0 : Place::kBuffer1;
template <class Place>
inline constexpr int kFreeBuffer = (kDataLayerCount - 1) % 2 == 0 ? Place::kBuffer1 : Place::kBuffer0;

// The first layer's bias with the row's context in it; visible after a barrier.
template <class Place>
__device__ void prepare_row_bias(const float* parameters, const float* context, float* shared) {
    constexpr Layer first = model::kDataLayers[0];
    for (int j = threadIdx.x; j < first.n_out; j += kThreads)
        shared[Place::kRowBias + j] = parameters[first.bias + j] + (context ? context[j] : 0.0f);
}

template <class Place, int kIndex = 0>
__device__ void run_mask_layers(const float* parameters, float* shared) {
    if constexpr (kIndex < kMaskLayerCount) {
        constexpr Layer layer = model::kMaskLayers[kIndex];
        constexpr int kFrom = kIndex == 0 ? Place::kInput : (kIndex - 1) % 2 == 0 ? Place::kBuffer0 : Place::kBuffer1;
        constexpr int kTo = kIndex + 1 == kMaskLayerCount ? Place::kInput + model::kLatent * model::kTile
                            : kIndex % 2 == 0             ? Place::kBuffer0
                                                          : Place::kBuffer1;
        Dense<model::kTile>::template layer<layer.n_in, layer.n_out, layer.active>(
            parameters + layer.weight, parameters + layer.bias, model::kSlope, shared + kFrom, shared + kTo,
            shared + Place::kWeights);
        run_mask_layers<Place, kIndex + 1>(parameters, shared);
    }
}

template <class Place, int kIndex = 0>
__device__ void run_data_layers(const float* parameters, float* shared) {
    if constexpr (kIndex < kDataLayerCount) {
        constexpr Layer layer = model::kDataLayers[kIndex];
        constexpr int kFrom = kIndex == 0 ? Place::kInput : (kIndex - 1) % 2 == 0 ? Place::kBuffer0 : Place::kBuffer1;
        constexpr int kTo = kIndex % 2 == 0 ? Place::kBuffer0 : Place::kBuffer1;
        const float* bias = kIndex == 0 ? shared + Place::kRowBias : parameters + layer.bias;
        Dense<model::kTile>::template layer<layer.n_in, layer.n_out, layer.active>(
            parameters + layer.weight, bias, model::kSlope, shared + kFrom, shared + kTo, shared + Place::kWeights);
        run_data_layers<Place, kIndex + 1>(parameters, shared);
    }
}

}  // namespace vsae
