#include "cpu/importance_impute.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "core/sample_order.h"
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

// Signals are heeded between tasks: large networks get fewer rows, so that a task takes a fraction of a second
// anywhere.
constexpr long kRowsPerTask = 16;
constexpr double kProductsPerTask = 5e8;

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
void pack_noise(const float* noise, int n_samples, int n_latent, int n_blocks, float* packed, float* half_square) {
    std::fill_n(packed, static_cast<long>(n_blocks) * n_latent * kBlock, 0.0f);
    std::fill_n(half_square, static_cast<long>(n_blocks) * kBlock, -std::numeric_limits<float>::infinity());
    for (int k = 0; k < n_samples; ++k) {
        const long place = sample_place(k);
        float* to = packed + place / kBlock * n_latent * kBlock + place % kBlock;
        double square = 0;
        for (int l = 0; l < n_latent; ++l) {
            const float e = noise[static_cast<long>(k) * n_latent + l];
            to[static_cast<long>(l) * kBlock] = e;
            square += static_cast<double>(e) * e;
        }
        half_square[place] = static_cast<float>(square / 2);
    }
}

}  // namespace

bool importance_impute(const ImportanceImputeModel& model, ImportanceImputeBatch batch, const float* noise, long n_rows,
                       int n_threads, CpuLevel level, const std::function<bool()>& poll) {
    const ImportanceImputeKernel& kernel = importance_impute_kernel_for(level);
    const int per_proposal = batch.n_samples / batch.n_proposals;
    batch.n_blocks = blocks_of_samples(per_proposal);
    // Several proposals take turns block by block, so that products of one would be gone when its image comes.
    batch.mirrored = batch.n_proposals == 1 && is_mirrored(noise, per_proposal, model.n_latent);
    const long n_padded = static_cast<long>(batch.n_blocks) * kBlock;

    AlignedBuffer packed(batch.n_proposals * n_padded * model.n_latent);
    AlignedBuffer half_square(batch.n_proposals * n_padded);
    for (long p = 0; p < batch.n_proposals; ++p)
        pack_noise(noise + p * per_proposal * model.n_latent, per_proposal, model.n_latent, batch.n_blocks,
                   packed.data() + p * n_padded * model.n_latent, half_square.data() + p * n_padded);
    batch.noise = packed.data();
    batch.half_square = half_square.data();

    const long scratch_floats = kernel.scratch_floats(model, batch);
    const auto work = [&](RowTasks& tasks) {
        AlignedBuffer scratch(scratch_floats);
        for (long begin, end; tasks.next(&begin, &end);) kernel.run_rows(model, batch, scratch.data(), begin, end);
    };
    return parallel_rows(n_rows, rows_per_task(model, batch.n_samples), n_threads, work, &poll);
}

}  // namespace vsae
