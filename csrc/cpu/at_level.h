// What is compiled once per instruction set, each into the namespace of that name, and chosen at run time.
#pragma once

#include <stdexcept>
#include <string>

#include "cpu/cpu_level.h"

// Declares the constant `name` of every instruction set that this build has kernels for, and name_at(level).
#if defined(VSAE_X86)
#define VSAE_AT_LEVEL(Type, name)                                                                                    \
    namespace baseline {                                                                                             \
    extern const Type name;                                                                                          \
    }                                                                                                                \
    namespace avx2 {                                                                                                 \
    extern const Type name;                                                                                          \
    }                                                                                                                \
    namespace avx512 {                                                                                               \
    extern const Type name;                                                                                          \
    }                                                                                                                \
    static const Type& name##_at(CpuLevel level) {                                                                   \
        return level == CpuLevel::kBaseline ? baseline::name : level == CpuLevel::kAvx2 ? avx2::name : avx512::name; \
    }
#else
#define VSAE_AT_LEVEL(Type, name)                                                                    \
    namespace baseline {                                                                             \
    extern const Type name;                                                                          \
    }                                                                                                \
    static const Type& name##_at(CpuLevel level) {                                                   \
        if (level == CpuLevel::kBaseline) return baseline::name;                                     \
        throw std::invalid_argument(std::string("this build has no kernels for ") + name_of(level)); \
    }
#endif
