// Which instruction set the kernels run on: found once with cpuid and xgetbv (through the compiler's builtin, which
// checks both), or forced with the environment variable VSAE_FAST_CPU=baseline|avx2|avx512.
#pragma once

#include <string>
#include <vector>

namespace vsae {

enum class CpuLevel { kBaseline, kAvx2, kAvx512 };

const char* name_of(CpuLevel level);
CpuLevel level_named(const std::string& name);  // throws std::invalid_argument

std::vector<CpuLevel> supported_levels();  // built in and able to run on this machine, slowest first
CpuLevel active_level();                   // throws std::invalid_argument where VSAE_FAST_CPU asks for another

}  // namespace vsae
