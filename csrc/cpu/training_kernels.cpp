#include "cpu/training_kernels.h"

#include <stdexcept>
#include <string>

namespace vsae {

namespace baseline {
extern const TrainingKernels training_kernels;
}
#if defined(VSAE_X86)
namespace avx2 {
extern const TrainingKernels training_kernels;
}
namespace avx512 {
extern const TrainingKernels training_kernels;
}
#endif

const TrainingKernels& training_kernels_for(CpuLevel level) {
    if (level == CpuLevel::kBaseline) return baseline::training_kernels;
#if defined(VSAE_X86)
    return level == CpuLevel::kAvx2 ? avx2::training_kernels : avx512::training_kernels;
#else
    throw std::invalid_argument(std::string("this build has no kernels for ") + name_of(level));
#endif
}

}  // namespace vsae
