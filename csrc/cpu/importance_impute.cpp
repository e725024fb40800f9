#include "cpu/importance_impute.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "cpu/aligned_buffer.h"
#include "cpu/parallel_rows.h"

namespace vsae {

namespace baseline {
extern const ImportanceImputeKernel importance_impute_kernel;
}
#if defined(VSAE_X86)
namespace avx2 {
extern const ImportanceImputeKernel importance_impute_kernel;
}
namespace avx512 {
extern const ImportanceImputeKernel importance_impute_kernel;
}
#endif

const ImportanceImputeKernel& importance_impute_kernel_for(CpuLevel level) {
    if (level == CpuLevel::kBaseline) return baseline::importance_impute_kernel;
#if defined(VSAE_X86)
    return level == CpuLevel::kAvx2 ? avx2::importance_impute_kernel : avx512::importance_impute_kernel;
#else
    throw std::invalid_argument(std::string("this build has no kernels for ") + name_of(level));
#endif
}

namespace {

constexpr long kRowsPerTask = 16;

void pack_noise(const float* noise, int n_samples, int n_latent, int block, float* packed, float* half_square) {
    const int n_blocks = (n_samples + block - 1) / block;
    for (int k = 0; k < n_blocks * block; ++k) {
        float* to = packed + static_cast<long>(k / block) * n_latent * block + k % block;
        double square = 0;
        for (int l = 0; l < n_latent; ++l) {
            const float e = k < n_samples ? noise[static_cast<long>(k) * n_latent + l] : 0.0f;
            to[static_cast<long>(l) * block] = e;
            square += static_cast<double>(e) * e;
        }
        half_square[k] = k < n_samples ? static_cast<float>(square / 2) : -std::numeric_limits<float>::infinity();
    }
}

}  // namespace

void importance_impute(const ImportanceImputeModel& model, ImportanceImputeBatch batch, const float* noise, long n_rows,
                       int n_threads, CpuLevel level) {
    const ImportanceImputeKernel& kernel = importance_impute_kernel_for(level);
    batch.n_blocks = (batch.n_samples + kernel.block - 1) / kernel.block;
    const long n_padded = static_cast<long>(batch.n_blocks) * kernel.block;

    AlignedBuffer packed(n_padded * model.n_latent);
    AlignedBuffer half_square(n_padded);
    pack_noise(noise, batch.n_samples, model.n_latent, kernel.block, packed.data(), half_square.data());
    batch.noise = packed.data();
    batch.half_square = half_square.data();

    const long scratch_floats = kernel.scratch_floats(model);
    parallel_rows(n_rows, kRowsPerTask, n_threads, [&](RowTasks& tasks) {
        AlignedBuffer scratch(scratch_floats);
        for (long begin, end; tasks.next(&begin, &end);) kernel.run_rows(model, batch, scratch.data(), begin, end);
    });
}

}  // namespace vsae
