#include "cpu/importance_impute.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include "core/sample_order.h"
#include "cpu/aligned_buffer.h"
#include "cpu/parallel_rows.h"

namespace vsae {

#define VSAE_DECLARE_KERNELS(level)                                   \
    namespace level {                                                 \
    extern const ImportanceImputeKernel importance_impute_kernel;     \
    }                                                                 \
    namespace level##_short {                                         \
        extern const ImportanceImputeKernel importance_impute_kernel; \
    }
VSAE_DECLARE_KERNELS(baseline)
#if defined(VSAE_X86)
VSAE_DECLARE_KERNELS(avx2)
VSAE_DECLARE_KERNELS(avx512)
#endif

const ImportanceImputeKernel& importance_impute_kernel_for(CpuLevel level, bool short_blocks) {
    if (level == CpuLevel::kBaseline)
        return short_blocks ? baseline_short::importance_impute_kernel : baseline::importance_impute_kernel;
#if defined(VSAE_X86)
    if (level == CpuLevel::kAvx2)
        return short_blocks ? avx2_short::importance_impute_kernel : avx2::importance_impute_kernel;
    return short_blocks ? avx512_short::importance_impute_kernel : avx512::importance_impute_kernel;
#else
    throw std::invalid_argument(std::string("this build has no kernels for ") + name_of(level));
#endif
}

namespace {

// Signals are heeded between tasks: large networks get fewer rows, so that a task takes a fraction of a second
// anywhere.
constexpr long kRowsPerTask = 16;
constexpr double kProductsPerTask = 1e8;

long rows_per_task(const ImportanceImputeModel& model, int n_samples) {
    double products = 0;
    for (int i = 0; i < model.n_mask_layers; ++i)
        products += static_cast<double>(model.mask_layers[i].n_in) * model.mask_layers[i].n_out;
    for (int i = 0; i < model.n_data_layers; ++i)
        products += static_cast<double>(model.data_layers[i].n_in) * model.data_layers[i].n_out;
    const double rows = kProductsPerTask / (products * n_samples);
    return std::clamp(static_cast<long>(std::min(rows, 1e6)), 1L, kRowsPerTask);
}

// The noise of one proposal: places that no sample takes are padding, marked by a half square of -inf.
void pack_noise(const float* noise, int n_samples, int n_latent, int n_blocks, int half, float* packed,
                float* half_square) {
    const int block = 2 * half;
    std::fill_n(packed, static_cast<long>(n_blocks) * n_latent * block, 0.0f);
    std::fill_n(half_square, static_cast<long>(n_blocks) * block, -std::numeric_limits<float>::infinity());
    for (int k = 0; k < n_samples; ++k) {
        const long place = sample_place(k, n_samples, half);
        float* to = packed + place / block * n_latent * block + place % block;
        double square = 0;
        for (int l = 0; l < n_latent; ++l) {
            const float e = noise[static_cast<long>(k) * n_latent + l];
            to[static_cast<long>(l) * block] = e;
            square += static_cast<double>(e) * e;
        }
        half_square[place] = static_cast<float>(square / 2);
    }
}

std::vector<double> inverse_scales(const ImportanceImputeModel& model) {
    std::vector<double> inverse(static_cast<std::size_t>(model.n_columns), 1.0);
    for (int a = 0; a < model.n_attributes; ++a)
        for (int c = model.attribute_start[a]; c < model.attribute_start[a + 1]; ++c)
            if (model.attribute_kind[a] == kNumerical)
                inverse[static_cast<std::size_t>(c)] = std::exp(-static_cast<double>(model.log_scale[c]));
    return inverse;
}

}  // namespace

bool importance_impute(const ImportanceImputeModel& model, ImportanceImputeBatch batch, const float* noise, long n_rows,
                       int n_threads, CpuLevel level, const std::function<bool()>& poll) {
    const ImportanceImputeKernel& kernel = importance_impute_kernel_for(level, batch.tolerance > 0);
    const int block = 2 * kernel.half_block;
    const int per_proposal = batch.n_samples / batch.n_proposals;
    batch.n_blocks = (per_proposal + block - 1) / block;
    // Several proposals take turns block by block, so that products of one would be gone when its image comes.
    batch.mirrored = batch.n_proposals == 1 && is_mirrored(noise, per_proposal, model.n_latent);
    const long n_padded = static_cast<long>(batch.n_blocks) * block;

    AlignedBuffer packed(batch.n_proposals * n_padded * model.n_latent);
    AlignedBuffer half_square(batch.n_proposals * n_padded);
    for (long p = 0; p < batch.n_proposals; ++p)
        pack_noise(noise + p * per_proposal * model.n_latent, per_proposal, model.n_latent, batch.n_blocks,
                   kernel.half_block, packed.data() + p * n_padded * model.n_latent, half_square.data() + p * n_padded);
    batch.noise = packed.data();
    batch.half_square = half_square.data();
    const std::vector<double> inverse_scale = inverse_scales(model);
    batch.inverse_scale = inverse_scale.data();

    const long scratch_floats = kernel.scratch_floats(model, batch);
    const auto work = [&](RowTasks& tasks) {
        AlignedBuffer scratch(scratch_floats);
        for (long begin, end; tasks.next(&begin, &end);) kernel.run_rows(model, batch, scratch.data(), begin, end);
    };
    return parallel_rows(n_rows, rows_per_task(model, batch.n_samples), n_threads, work, &poll);
}

}  // namespace vsae
