// The row that importance_impute works on.
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

}  // namespace VSAE_ISA
}  // namespace vsae
