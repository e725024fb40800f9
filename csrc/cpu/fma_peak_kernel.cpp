// Twelve independent chains of multiply-adds on registers: more than latency x throughput of any x86 since Haswell.
// Compiled once per instruction set.
#include "cpu/fma_peak.h"
#include "cpu/simd.h"

namespace vsae {
namespace VSAE_ISA {

static double run(long iterations) {
    constexpr int kChains = 12;
    Vec chain[kChains];
    for (int c = 0; c < kChains; ++c) chain[c] = splat(1.0f + 0.01f * c);
    Vec factor = splat(0.999f);
    Vec addend = splat(0.001f);
    asm volatile("" : "+m"(factor), "+m"(addend));  // not known to the compiler
    for (long i = 0; i < iterations; ++i)
        for (int c = 0; c < kChains; ++c) chain[c] = chain[c] * factor + addend;
    for (int c = 0; c < kChains; ++c) asm volatile("" : "+m"(chain[c]));
    return 2.0 * kLanes * kChains * static_cast<double>(iterations);
}

extern const FmaLoop fma_loop;
const FmaLoop fma_loop = run;

}  // namespace VSAE_ISA
}  // namespace vsae
