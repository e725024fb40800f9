// Sums over the first axis, compensated: what tiles of rows leave of a gradient.
#include "cuda/dense.h"
#include "cuda/sum.h"

// Grid: n threads. `out`[i] is the sum of n_parts floats, n apart.
extern "C" __global__ void __launch_bounds__(vsae::kThreads)
    add_up(int n_parts, int n, const float* parts, float* out) {
    const int i = blockIdx.x * vsae::kThreads + threadIdx.x;
    if (i >= n) return;
    vsae::Sum sum;
    for (int part = 0; part < n_parts; ++part) sum.add(parts[static_cast<long long>(part) * n + i]);
    out[i] = sum.total + sum.lost;
}
