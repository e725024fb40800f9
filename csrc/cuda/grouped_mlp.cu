// grouped_mlp for CUDA devices of compute capability 6.0 and up, float32: one layer of all networks, and the way back.
//
// Compiled at run time for a layer's shape: vsae_fast/cuda/grouped_mlp.py writes it as constants of namespace
// vsae::model in front of this file. A block of threads takes a tile of rows of one network. Batch statistics need all
// rows before any is normalised, so that a layer normalises what the layer below left when it reads it:
//
//   forward    grouped_layer, grouped_statistics for each hidden layer, and grouped_layer for the head
//   backward   grouped_layer_backward and add_up (its own file) from the head down
//
// Linear outputs stand as [G, N, width]; statistics as [G, 4, width]: a number near the mean, what the mean has beyond
// it, 1 / sqrt(var + eps), whether the batch's own were used. Columns far from zero and hardly varying would feel the
// rounding of their mean: the way back is a small difference of large sums there.
#include "cuda/dense.h"
#include "cuda/sum.h"

namespace vsae {

using namespace model;  // kTile, kIn, kOut, kNormalised (is the input a hidden layer?), kHead

constexpr float kEpsilon = 1e-5f, kMomentum = 0.1f;
constexpr int kMinRowsForStatistics = 2;    // with one row the variance is 0 and the layer forgets its input
constexpr int kChunkInputs = kMostOutputs;  // inputs whose gradients are in shared memory at a time

// A hidden layer as those above it see it.
struct Hidden {
    const float* linear;      // [G, N, width]
    const float* statistics;  // [G, 4, width]
    const float* gamma;       // [G, width]
    const float* beta;
    int width;
    int n_rows;

    __device__ float unit(int group, long long row, int j) const {
        const float* own = statistics + 4LL * group * width + j;
        const float value = linear[(static_cast<long long>(group) * n_rows + row) * width + j];
        return ((value - own[0]) - own[width]) * own[2 * width];
    }
    __device__ float normalised(int group, float unit, int j) const {
        return unit * gamma[group * width + j] + beta[group * width + j];
    }
};

struct Rows {
    int n_rows, n_groups, group;
    long long first;
    const float* mask;  // [N, G]

    __device__ bool real(int r) const { return first + r < n_rows; }
    __device__ bool observed(int r) const { return real(r) && mask[(first + r) * n_groups + group] > 0; }
};

// Inputs begin..begin+count-1 of the tile's rows as [count, tile]: the layer below, activated, or x where it is
// observed.
__device__ void read_inputs(const Rows& rows, const float* x, const Hidden& below, float slope, int begin, int count,
                            float* to) {
    for (int i = threadIdx.x; i < count * kTile; i += kThreads) {
        const int j = i % count, r = i / count;  // neighbouring threads read neighbouring floats
        float value = 0;
        if (kNormalised && rows.real(r)) {
            value = below.normalised(rows.group, below.unit(rows.group, rows.first + r, begin + j), begin + j);
            value = value > 0 ? value : slope * value;
        } else if (!kNormalised && rows.observed(r)) {
            value = x[((rows.first + r) * rows.n_groups + rows.group) * kIn + begin + j];
        }
        to[j * kTile + r] = value;
    }
}

}  // namespace vsae

// Grid: tiles, groups. The head writes `out` as [N, G, kOut], other layers as [G, N, kOut] with `partial` [tiles, G, 4,
// kOut] beside it: number of observed rows of the tile, their mean in two parts and their sum of squared deviations.
extern "C" __global__ void __launch_bounds__(vsae::kThreads)
    grouped_layer(int n_rows, int n_groups, float slope, const float* x, const float* mask, const float* below,
                  const float* below_statistics, const float* below_gamma, const float* below_beta, const float* weight,
                  const float* bias, float* out, float* partial) {
    using namespace vsae;
    __shared__ __align__(16) float inputs[kIn * kTile];
    __shared__ __align__(16) float outputs[kOut * kTile];
    __shared__ __align__(16) float chunk[kChunkFloats];
    const int group = blockIdx.y;
    const Rows rows{n_rows, n_groups, group, static_cast<long long>(blockIdx.x) * kTile, mask};
    const Hidden hidden{below, below_statistics, below_gamma, below_beta, kIn, n_rows};
    read_inputs(rows, x, hidden, slope, 0, kIn, inputs);
    Dense<kTile>::layer<kIn, kOut, false>(weight + static_cast<long long>(group) * kIn * kOut, bias + group * kOut,
                                          slope, inputs, outputs, chunk);
    __syncthreads();
    for (int i = threadIdx.x; i < kOut * kTile; i += kThreads) {
        const int o = i % kOut, r = i / kOut;
        if (!rows.real(r)) continue;
        const long long row = rows.first + r;
        const long long at =
            kHead ? (row * n_groups + group) * kOut : (static_cast<long long>(group) * n_rows + row) * kOut;
        out[at + o] = outputs[o * kTile + r];
    }
    if (kHead || !partial) return;
    for (int o = threadIdx.x; o < kOut; o += kThreads) {
        float count = 0, sum = 0;
        for (int r = 0; r < kTile; ++r)
            if (rows.observed(r)) {
                count += 1;
                sum += outputs[o * kTile + r];
            }
        const float mean = count > 0 ? sum / count : 0.0f;
        float squares = 0, left = 0;
        for (int r = 0; r < kTile; ++r)
            if (rows.observed(r)) {
                const float centred = outputs[o * kTile + r] - mean;
                squares += centred * centred;
                left += centred;
            }
        const float beyond = count > 0 ? left / count : 0.0f;  // what rounding took of the mean
        float* to = partial + (static_cast<long long>(blockIdx.x) * n_groups + group) * 4 * kOut + o;
        to[0] = count;
        to[kOut] = mean;
        to[2 * kOut] = beyond;
        to[3 * kOut] = squares - count * beyond * beyond;
    }
}

// Grid: groups. Statistics of a hidden layer from those of its tiles (Chan et al. 1983); without `partial` the running
// ones, which stay as they are.
extern "C" __global__ void __launch_bounds__(vsae::kThreads)
    grouped_statistics(int n_tiles, int n_groups, const float* partial, float* running_mean, float* running_var,
                       float* statistics) {
    using namespace vsae;
    const int group = blockIdx.x;
    for (int o = threadIdx.x; o < kOut; o += kThreads) {
        float count = 0, near = 0, beyond = 0, squares = 0;
        for (int tile = 0; partial && tile < n_tiles; ++tile) {
            const float* from = partial + (static_cast<long long>(tile) * n_groups + group) * 4 * kOut + o;
            if (from[0] == 0) continue;
            if (count == 0) near = from[kOut];
            const float all = count + from[0], distance = ((from[kOut] - near) + from[2 * kOut]) - beyond;
            beyond += distance * (from[0] / all);
            squares += from[3 * kOut] + distance * distance * (count * from[0] / all);
            count = all;
        }
        const int at = group * kOut + o;
        const bool from_batch = count >= kMinRowsForStatistics;
        float variance = running_var[at];
        if (from_batch) {
            variance = squares / count;
            running_mean[at] += kMomentum * ((near - running_mean[at]) + beyond);
            running_var[at] += kMomentum * (squares / (count - 1) - running_var[at]);
        } else {
            near = running_mean[at];
            beyond = 0;
        }
        float* to = statistics + 4LL * group * kOut + o;
        to[0] = near;
        to[kOut] = beyond;
        to[2 * kOut] = 1.0f / sqrtf(variance + kEpsilon);
        to[3 * kOut] = from_batch ? 1.0f : 0.0f;
    }
}

// Grid: tiles, groups. `gradient` is that of the head's output as [N, G, kOut], or of this hidden layer's normalised
// values as [G, N, kOut], with `sums` [G, 2, kOut] over all rows: of gradient times unit, of the gradient. `down` is
// that of x as [N, G, kIn], or of the normalised values of the layer below as [G, N, kIn] with the tile's own sums in
// `partial_sums` [tiles, G, 2, kIn].
extern "C" __global__ void __launch_bounds__(vsae::kThreads)
    grouped_layer_backward(int n_rows, int n_groups, float slope, const float* x, const float* mask,
                           const float* counts, const float* below, const float* below_statistics,
                           const float* below_gamma, const float* below_beta, const float* transposed,
                           const float* gradient, const float* sums, const float* linear, const float* statistics,
                           const float* gamma, float* of_weight, float* of_bias, float* down, float* partial_sums) {
    using namespace vsae;
    __shared__ __align__(16) float above[kOut * kTile];
    __shared__ __align__(16) float inputs[kChunkInputs * kTile];
    __shared__ __align__(16) float lower[kChunkInputs * kTile];
    __shared__ __align__(16) float chunk[kChunkFloats];
    const int group = blockIdx.y;
    const Rows rows{n_rows, n_groups, group, static_cast<long long>(blockIdx.x) * kTile, mask};
    const Hidden hidden{below, below_statistics, below_gamma, below_beta, kIn, n_rows};
    const Hidden own{linear, statistics, gamma, nullptr, kOut, n_rows};
    const long long of_tile = static_cast<long long>(blockIdx.x) * n_groups + group;

    // The gradient of this layer's linear output.
    for (int i = threadIdx.x; i < kOut * kTile; i += kThreads) {
        const int o = i % kOut, r = i / kOut;
        const long long row = rows.first + r;
        float value = 0;
        if (rows.real(r)) {
            if (kHead) {
                value = gradient[(row * n_groups + group) * kOut + o];
            } else {
                const float* flags = statistics + (4LL * group + 2) * kOut;  // inverse, then whether from the batch
                value = gradient[(static_cast<long long>(group) * n_rows + row) * kOut + o];
                if (flags[kOut + o] > 0 && rows.observed(r)) {
                    const float* all = sums + 2LL * group * kOut;
                    value -= (all[kOut + o] + own.unit(group, row, o) * all[o]) / counts[group];
                }
                value *= gamma[group * kOut + o] * flags[o];
            }
        }
        above[o * kTile + r] = value;
    }
    __syncthreads();
    for (int o = threadIdx.x; o < kOut; o += kThreads) {
        // The batch's mean takes the bias away again: where it was used the gradient is zero, not its rounding.
        const bool gone = !kHead && statistics[(4LL * group + 3) * kOut + o] > 0;
        Sum sum;
        for (int r = 0; !gone && r < kTile; ++r) sum.add(above[o * kTile + r]);
        of_bias[of_tile * kOut + o] = sum.total + sum.lost;
    }
    constexpr int kAtOnce = Dense<kTile>::template outputs_at_once<kIn>();
    for (int begin = 0; begin < kIn; begin += kAtOnce) {
        const int count = kIn - begin < kAtOnce ? kIn - begin : kAtOnce;
        __syncthreads();  // the chunk before has been used
        read_inputs(rows, x, hidden, slope, begin, count, inputs);
        Dense<kTile>::template tile<kOut, kIn, false>(transposed + static_cast<long long>(group) * kOut * kIn, kIn,
                                                      nullptr, nullptr, begin, kIn, slope, above, lower, chunk);
        __syncthreads();
        for (int i = threadIdx.x; i < count * kOut; i += kThreads) {
            const int j = i / kOut, o = i % kOut;
            Sum sum;
            for (int r = 0; r < kTile; ++r) sum.add(inputs[j * kTile + r] * above[o * kTile + r]);
            of_weight[(of_tile * kIn + begin + j) * kOut + o] = sum.total + sum.lost;
        }
        if (kNormalised) {
            for (int j = threadIdx.x; j < count; j += kThreads) {
                Sum with_unit, alone;
                for (int r = 0; r < kTile; ++r) {
                    if (!rows.real(r)) continue;
                    // The activation keeps the sign of what it is given.
                    const float through = lower[j * kTile + r] * (inputs[j * kTile + r] > 0 ? 1.0f : slope);
                    lower[j * kTile + r] = through;
                    with_unit.add(through * hidden.unit(group, rows.first + r, begin + j));
                    alone.add(through);
                }
                float* to = partial_sums + of_tile * 2 * kIn + begin + j;
                to[0] = with_unit.total + with_unit.lost;
                to[kIn] = alone.total + alone.lost;
            }
            __syncthreads();
        }
        for (int i = threadIdx.x; i < count * kTile; i += kThreads) {
            const int j = i % count, r = i / count;
            const long long row = rows.first + r;
            if (!rows.real(r)) continue;
            const float value = lower[j * kTile + r];
            if (kNormalised)
                down[(static_cast<long long>(group) * n_rows + row) * kIn + begin + j] = value;
            else
                down[(row * n_groups + group) * kIn + begin + j] = rows.observed(r) ? value : 0.0f;
        }
    }
}
