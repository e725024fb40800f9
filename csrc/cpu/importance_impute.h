// The CPU kernel of importance_impute as the rest of the library sees it.
#pragma once

#include <functional>

#include "core/importance_impute.h"
#include "cpu/cpu_level.h"

namespace vsae {

struct ImportanceImputeKernel {
    int half_block;  // samples in half a block, as sample_place takes it
    long (*scratch_floats)(const ImportanceImputeModel&, const ImportanceImputeBatch&);
    void (*run_rows)(const ImportanceImputeModel&, const ImportanceImputeBatch&, float* scratch, long begin, long end);
};

// The kernel of one instruction set, in short blocks where rows may stop after each; throws std::invalid_argument where
// the build does not hold it.
const ImportanceImputeKernel& importance_impute_kernel_for(CpuLevel level, bool short_blocks);

// The whole op for row-major inputs. `noise` is [K, L]; the packed fields of `batch` are filled in here. Rows are
// shared out to `n_threads` threads, the calling one among them. The calling thread asks `poll` from time to time
// whether to go on; returns false where it said no, with rows left undone.
bool importance_impute(const ImportanceImputeModel& model, ImportanceImputeBatch batch, const float* noise, long n_rows,
                       int n_threads, CpuLevel level, const std::function<bool()>& poll);

}  // namespace vsae
