// Dense layers over a tile of samples in shared memory, every matrix with one sample per column.
//
// A block of kThreads threads holds a tile of outputs in registers: each thread has four samples, side by side, of
// `rows_per_thread` outputs. Weights come in chunks through shared memory, where a warp reads them as broadcasts.
#pragma once

namespace vsae {

inline constexpr int kThreads = 128;
inline constexpr int kSamplesPerThread = 4;
inline constexpr int kMostOutputs = 64;  // of a tile
inline constexpr int kChunk = 16;        // inputs whose weights are in shared memory at a time
inline constexpr int kChunkFloats = kChunk * kMostOutputs;

// A layer among the parameters: weight is [n_in, n_out], bias [n_out].
struct Layer {
    int n_in;
    int n_out;
    int weight;
    int bias;
    bool active;  // LeakyReLU after it
};

// Attributes whose networks have one shape. Weights of a layer's members stand one after the other from that of member
// 0.
struct Group {
    int width;        // inputs of a network
    int first_layer;  // among the layers of all groups
    int n_layers;
    int first_member;  // among the members of all groups
    int n_members;
};

template <int kTile>
struct Dense {
    static constexpr int kSampleGroups = kTile / kSamplesPerThread;
    static constexpr int kOutputGroups = kThreads / kSampleGroups;
    static_assert(kTile % kSamplesPerThread == 0 && kThreads % kSampleGroups == 0, "threads do not cover the tile");

    static constexpr int rows_per_thread(int n_out) {
        int rows = 1;
        while (rows * kOutputGroups < n_out && rows * kOutputGroups < kMostOutputs) rows *= 2;
        return rows;
    }
    template <int kOut>
    static constexpr int outputs_at_once() {
        return rows_per_thread(kOut) * kOutputGroups;
    }

    // out[o] = act(bias[o] + sum_i weight[i, column(o)] in[i]) for outputs first..first+outputs_at_once-1 of `count`;
    // `columns` chooses columns of the weight, null takes them in order; a null bias is 0. `out` may not overlap `in`;
    // results are visible after a barrier.
    template <int kIn, int kOut, bool kActive>
    static __device__ void tile(const float* weight, int stride, const float* bias, const int* columns, int first,
                                int count, float slope, const float* in, float* out, float* chunk) {
        constexpr int kRows = rows_per_thread(kOut);
        constexpr int kOutputs = kRows * kOutputGroups;
        const int thread = threadIdx.x;
        const int sample = thread % kSampleGroups * kSamplesPerThread;
        const int row = thread / kSampleGroups * kRows;
        float sum[kRows][kSamplesPerThread];
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
            const float start = bias && first + row + r < count ? bias[first + row + r] : 0.0f;
#pragma unroll
            for (int s = 0; s < kSamplesPerThread; ++s) sum[r][s] = start;
        }
        for (int begin = 0; begin < kIn; begin += kChunk) {
            const int length = kIn - begin < kChunk ? kIn - begin : kChunk;
            __syncthreads();  // the chunk before has been used, and `in` been written
            for (int i = thread; i < length * kOutputs; i += kThreads) {
                const int output = first + i % kOutputs;
                const int column = output < count && columns ? columns[output] : output;
                chunk[i] = output < count ? weight[(begin + i / kOutputs) * stride + column] : 0.0f;
            }
            __syncthreads();
#pragma unroll 4
            for (int i = 0; i < length; ++i) {
                const float4 x = *reinterpret_cast<const float4*>(in + (begin + i) * kTile + sample);
                float w[kRows];
                load<kRows>(chunk + i * kOutputs + row, w);
#pragma unroll
                for (int r = 0; r < kRows; ++r) {
                    sum[r][0] += w[r] * x.x;
                    sum[r][1] += w[r] * x.y;
                    sum[r][2] += w[r] * x.z;
                    sum[r][3] += w[r] * x.w;
                }
            }
        }
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
            if (first + row + r >= count) continue;
            float4 y = make_float4(sum[r][0], sum[r][1], sum[r][2], sum[r][3]);
            if (kActive) y = make_float4(leaky(y.x, slope), leaky(y.y, slope), leaky(y.z, slope), leaky(y.w, slope));
            *reinterpret_cast<float4*>(out + (row + r) * kTile + sample) = y;
        }
    }

    // All outputs of a layer.
    template <int kIn, int kOut, bool kActive>
    static __device__ void layer(const float* weight, const float* bias, float slope, const float* in, float* out,
                                 float* chunk) {
        constexpr int kOutputs = outputs_at_once<kOut>();
        for (int first = 0; first < kOut; first += kOutputs)
            tile<kIn, kOut, kActive>(weight, kOut, bias, nullptr, first, kOut, slope, in, out + first * kTile, chunk);
    }

   private:
    static __device__ float leaky(float x, float slope) { return x > 0 ? x : slope * x; }

    template <int kRows>
    static __device__ void load(const float* from, float* to) {
        if constexpr (kRows % 4 == 0) {
#pragma unroll
            for (int r = 0; r < kRows; r += 4) {
                const float4 four = *reinterpret_cast<const float4*>(from + r);
                to[r] = four.x;
                to[r + 1] = four.y;
                to[r + 2] = four.z;
                to[r + 3] = four.w;
            }
        } else {
#pragma unroll
            for (int r = 0; r < kRows; ++r) to[r] = from[r];
        }
    }
};

}  // namespace vsae
