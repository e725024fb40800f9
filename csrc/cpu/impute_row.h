// The row that importance_impute works on, and functions that several of its parts share.
#pragma once

#include "core/importance_impute.h"

namespace vsae {
namespace VSAE_ISA {

struct ImputeRow {
    const ImportanceImputeModel* model;
    const float* x;     // [D]
    const float* mask;  // [M]

    bool observed(int attribute) const { return mask[attribute] > 0.5f; }
    bool numerical(int attribute) const { return model->attribute_kind[attribute] == kNumerical; }
    bool wide(int attribute) const { return model->wide_of[attribute] >= 0; }
    int start(int attribute) const { return model->attribute_start[attribute]; }
    int end(int attribute) const { return model->attribute_start[attribute + 1]; }
    int width(int attribute) const { return end(attribute) - start(attribute); }
    const float* output_row(int column) const {
        return model->output_weight + static_cast<long>(column) * model->n_hidden;
    }
};

// out[c] = factor * bias[c] + W[c] h for columns begin..end: double sums, enough of them at once to hide their latency.
template <class Value, class Result>
static void linear_outputs(const ImportanceImputeModel& model, int begin, int end, const Value* hidden, double factor,
                           Result* out) {
    constexpr int kAtOnce = 8;
    const int n = model.n_hidden;
    for (int c = begin; c < end; c += kAtOnce) {
        const int count = end - c < kAtOnce ? end - c : kAtOnce;
        double sum[kAtOnce] = {};
        const float* row = model.output_weight + static_cast<long>(c) * n;
        if (count == kAtOnce)
            for (int j = 0; j < n; ++j)
                for (int i = 0; i < kAtOnce; ++i)
                    sum[i] += static_cast<double>(row[static_cast<long>(i) * n + j]) * static_cast<double>(hidden[j]);
        else
            for (int i = 0; i < count; ++i)
                for (int j = 0; j < n; ++j)
                    sum[i] += static_cast<double>(row[static_cast<long>(i) * n + j]) * static_cast<double>(hidden[j]);
        for (int i = 0; i < count; ++i) out[c + i] = static_cast<Result>(factor * model.output_bias[c + i] + sum[i]);
    }
}

}  // namespace VSAE_ISA
}  // namespace vsae
