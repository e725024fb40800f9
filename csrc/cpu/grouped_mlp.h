// Independent small networks of one shape over the same rows (the attributive encoders), forward and backward.
//
// Layer l of network g: a = h W + b; h' = LeakyReLU((a - mean) / sqrt(var + eps) * gamma + beta), statistics over the
// rows whose mask is 1; a linear head at the end. Inputs of rows whose mask is 0 are taken for zeros.
#pragma once

#include <vector>

#include "cpu/cpu_level.h"

namespace vsae {

struct GroupedMlp {
    int n_rows;              // N
    int n_groups;            // G
    std::vector<int> sizes;  // input, hidden widths, output
    bool training;
    float slope;
    const float* x;     // [N, G, input]
    const float* mask;  // [N, G]
    // One for each layer: [G, in, out] and [G, out]; the last is the head.
    std::vector<const float*> weight, bias;
    // One for each hidden layer, [G, width]; running statistics are updated in training.
    std::vector<const float*> gamma, beta;
    std::vector<float*> running_mean, running_var;
};

struct GroupedMlpGradients {
    float* x;  // [N, G, input]
    std::vector<float*> weight, bias, gamma, beta;
};

// Floats that the way forward keeps for the way back.
long grouped_mlp_saved_floats(int n_rows, int n_groups, const std::vector<int>& sizes);

// `saved` starts on a 64-byte boundary; `out` is [N, G, output].
void grouped_mlp(const GroupedMlp& op, float* out, float* saved, int n_threads, CpuLevel level);

void grouped_mlp_backward(const GroupedMlp& op, const float* out_gradient, float* saved,
                          const GroupedMlpGradients& gradients, int n_threads, CpuLevel level);

}  // namespace vsae
