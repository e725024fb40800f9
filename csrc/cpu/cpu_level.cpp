#include "cpu/cpu_level.h"

#include <cstdlib>
#include <stdexcept>

namespace vsae {

namespace {

constexpr CpuLevel kAll[] = {CpuLevel::kBaseline, CpuLevel::kAvx2, CpuLevel::kAvx512};

bool supported(CpuLevel level) {
    if (level == CpuLevel::kBaseline) return true;
#if defined(VSAE_X86)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#if defined(VSAE_EMULATE_AVX512)
    return avx2;
#else
    if (level == CpuLevel::kAvx2) return avx2;
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
#endif
#else
    return false;
#endif
}

}  // namespace

const char* name_of(CpuLevel level) {
    switch (level) {
        case CpuLevel::kAvx512:
            return "avx512";
        case CpuLevel::kAvx2:
            return "avx2";
        default:
            return "baseline";
    }
}

CpuLevel level_named(const std::string& name) {
    for (const CpuLevel level : kAll)
        if (name == name_of(level)) return level;
    throw std::invalid_argument("unknown CPU level '" + name + "'; use baseline, avx2 or avx512");
}

std::vector<CpuLevel> supported_levels() {
    std::vector<CpuLevel> levels;
    for (const CpuLevel level : kAll)
        if (supported(level)) levels.push_back(level);
    return levels;
}

CpuLevel active_level() {
    const char* forced = std::getenv("VSAE_FAST_CPU");
    if (!forced || !*forced) return supported_levels().back();
    const CpuLevel level = level_named(forced);
    if (!supported(level))
        throw std::invalid_argument("VSAE_FAST_CPU=" + std::string(forced) + " cannot run on this machine; unset it");
    return level;
}

}  // namespace vsae
