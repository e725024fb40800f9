// The collective network's input: observed values, noise (or zeros) in the holes, then the mask.
#pragma once

namespace vsae {

struct FillUnobserved {
    long n_rows;
    int n_attributes;
    const int* attribute_start;  // [M + 1]
    const float* x;              // [N, D], not read where unobserved
    const float* mask;           // [N, M], 1 = observed
    const float* noise;          // [N, D], or [D] where noise_step is 0, or null for zeros
    long noise_step;
};

void fill_unobserved(const FillUnobserved& op, float* filled);  // [N, D + M]

// Gradient of x, [N, D], from that of the result.
void fill_unobserved_backward(const FillUnobserved& op, const float* gradient, float* x_gradient);

}  // namespace vsae
