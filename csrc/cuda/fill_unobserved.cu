// fill_unobserved for CUDA devices of compute capability 6.0 and up, float32: the observed data, noise or zeros in its
// holes, and the mask behind it; and the way back. One thread for each float of the result.
#include "cuda/dense.h"

namespace vsae {

__device__ long long this_thread() { return static_cast<long long>(blockIdx.x) * kThreads + threadIdx.x; }

}  // namespace vsae

// Grid: n_rows (n_columns + n_attributes) threads. `noise_step` floats lie from a row's noise to the next one's, 0
// where all rows share it; `noise` is null for zeros.
extern "C" __global__ void __launch_bounds__(vsae::kThreads)
    fill_unobserved(int n_rows, int n_columns, int n_attributes, const int* attribute, const float* x,
                    const float* mask, const float* noise, int noise_step, float* filled) {
    const int width = n_columns + n_attributes;
    const long long at = vsae::this_thread();
    const long long row = at / width;
    const int c = static_cast<int>(at % width);
    if (row >= n_rows) return;
    if (c >= n_columns)
        filled[at] = mask[row * n_attributes + c - n_columns];
    else if (mask[row * n_attributes + attribute[c]] > 0)
        filled[at] = x[row * n_columns + c];
    else
        filled[at] = noise ? noise[row * noise_step + c] : 0.0f;
}

// Grid: n_rows n_columns threads.
extern "C" __global__ void __launch_bounds__(vsae::kThreads)
    fill_unobserved_backward(int n_rows, int n_columns, int n_attributes, const int* attribute, const float* mask,
                             const float* gradient, float* x_gradient) {
    const long long at = vsae::this_thread();
    const long long row = at / n_columns;
    const int c = static_cast<int>(at % n_columns);
    if (row >= n_rows) return;
    const bool known = mask[row * n_attributes + attribute[c]] > 0;
    x_gradient[at] = known ? gradient[row * (n_columns + n_attributes) + c] : 0.0f;
}
