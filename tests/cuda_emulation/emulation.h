// Runs CUDA kernels of csrc/cuda as host C++: a block's threads are fibers that take turns at every barrier, blocks
// follow each other. Threads that miss a barrier which others reach are told from those that ended.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

struct alignas(16) float4 {
    float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

struct Index {
    unsigned x, y;
};
inline Index threadIdx, blockIdx;

namespace emulation {

struct Fiber {
    ucontext_t context;
    std::vector<char> stack;
    bool ended = false;
};

inline ucontext_t scheduler;
inline Fiber* running = nullptr;
inline const std::function<void()>* body = nullptr;

inline void enter() {
    (*body)();
    running->ended = true;
}

// Runs kernel() for every thread of every block.
inline void launch(unsigned blocks_x, unsigned blocks_y, unsigned threads, const std::function<void()>& kernel) {
    body = &kernel;
    std::vector<Fiber> fibers(threads);
    for (Fiber& fiber : fibers) fiber.stack.resize(256 * 1024);
    for (blockIdx.y = 0; blockIdx.y < blocks_y; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x < blocks_x; ++blockIdx.x) {
            for (Fiber& fiber : fibers) {
                getcontext(&fiber.context);
                fiber.context.uc_stack.ss_sp = fiber.stack.data();
                fiber.context.uc_stack.ss_size = fiber.stack.size();
                fiber.context.uc_link = &scheduler;
                fiber.ended = false;
                makecontext(&fiber.context, enter, 0);
            }
            for (unsigned left = threads; left > 0;) {
                unsigned ended = 0;
                for (unsigned thread = 0; thread < threads; ++thread) {
                    if (fibers[thread].ended) continue;
                    running = &fibers[thread];
                    threadIdx.x = thread;
                    swapcontext(&scheduler, &running->context);
                    ended += running->ended;
                }
                if (ended != 0 && ended != left) {
                    std::fprintf(stderr, "threads of one block reached different barriers\n");
                    std::abort();
                }
                left -= ended;
            }
        }
}

}  // namespace emulation

inline void __syncthreads() {
    emulation::Fiber* own = emulation::running;
    swapcontext(&own->context, &emulation::scheduler);
}
