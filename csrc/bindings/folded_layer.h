// Dense layers in evaluation mode as Python hands them over.
#pragma once

#include <cstdint>
#include <vector>

#include "bindings/addresses.h"
#include "cpu/folded_mlp.h"

namespace vsae {

struct FoldedLayer {
    std::uintptr_t weight;  // float[n_out, n_in]
    std::uintptr_t bias;    // float[n_out], or 0
    int n_in, n_out;
    bool activation;
};

inline FoldedMlp folded(const TrainingKernels& kernels, const std::vector<FoldedLayer>& layers, float slope) {
    std::vector<RowMajorLayer> views;
    for (const FoldedLayer& layer : layers)
        views.push_back(
            {at<const float>(layer.weight), at<const float>(layer.bias), layer.n_in, layer.n_out, layer.activation});
    return {kernels, views, slope};
}

}  // namespace vsae
