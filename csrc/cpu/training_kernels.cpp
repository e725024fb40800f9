#include "cpu/training_kernels.h"

#include "cpu/at_level.h"

namespace vsae {

VSAE_AT_LEVEL(TrainingKernels, training_kernels)

const TrainingKernels& training_kernels_for(CpuLevel level) { return training_kernels_at(level); }

}  // namespace vsae
