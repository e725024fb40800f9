// What this machine's multiply-add units give when nothing else is in the way: the yardstick of the benchmarks.
#pragma once

#include "cpu/cpu_level.h"

namespace vsae {

using FmaLoop = double (*)(long iterations);  // returns floating-point operations done

// GFLOP/s of n_threads threads together, over about `seconds`.
double fma_peak(int n_threads, double seconds, CpuLevel level);

}  // namespace vsae
