// The elementary functions of simd.h over arrays, one instruction set at a time, so that tests can sweep them.
#pragma once

#include <string>

#include "cpu/cpu_level.h"

namespace vsae {

using ElementaryFunction = void (*)(const float* x, float* out, long n);  // n a multiple of 16

// Null where there is no function of that name.
ElementaryFunction elementary_function(CpuLevel level, const std::string& name);

}  // namespace vsae
