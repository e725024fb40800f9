// Compiled once per instruction set and length of blocks, with VSAE_ISA, VSAE_LANES and VSAE_HALF_BLOCK set by the
// build.
#include "cpu/importance_impute.h"
#include "cpu/importance_impute_body.h"

namespace vsae {
namespace VSAE_ISA {

static long scratch_floats(const ImportanceImputeModel& model, const ImportanceImputeBatch& batch) {
    ImputeScratch scratch;
    return lay_out(model, batch, nullptr, &scratch);
}

static void run_rows(const ImportanceImputeModel& model, const ImportanceImputeBatch& batch, float* memory, long begin,
                     long end) {
    ImputeScratch scratch;
    lay_out(model, batch, memory, &scratch);
    RowImputer imputer(model, batch, scratch);
    for (long row = begin; row < end; ++row) imputer.run(row);
}

extern const ImportanceImputeKernel importance_impute_kernel;
const ImportanceImputeKernel importance_impute_kernel = {kBlockLanes, scratch_floats, run_rows};

}  // namespace VSAE_ISA
}  // namespace vsae
