#include "cpu/fill_unobserved.h"

#include <algorithm>

namespace vsae {

void fill_unobserved(const FillUnobserved& op, float* filled) {
    const int columns = op.attribute_start[op.n_attributes];
    for (long row = 0; row < op.n_rows; ++row) {
        const float* x = op.x + row * columns;
        const float* mask = op.mask + row * op.n_attributes;
        const float* noise = op.noise ? op.noise + row * op.noise_step : nullptr;
        float* to = filled + row * (columns + op.n_attributes);
        for (int a = 0; a < op.n_attributes; ++a) {
            const int begin = op.attribute_start[a], end = op.attribute_start[a + 1];
            const bool observed = mask[a] > 0;
            // By hand and without a branch: most attributes have a column or a few, and masks are not to be predicted.
            for (int c = begin; c < end; ++c) to[c] = observed ? x[c] : noise ? noise[c] : 0.0f;
        }
        std::copy(mask, mask + op.n_attributes, to + columns);
    }
}

void fill_unobserved_backward(const FillUnobserved& op, const float* gradient, float* x_gradient) {
    const int columns = op.attribute_start[op.n_attributes];
    for (long row = 0; row < op.n_rows; ++row)
        for (int a = 0; a < op.n_attributes; ++a)
            for (int c = op.attribute_start[a]; c < op.attribute_start[a + 1]; ++c)
                x_gradient[row * columns + c] =
                    op.mask[row * op.n_attributes + a] > 0 ? gradient[row * (columns + op.n_attributes) + c] : 0.0f;
}

}  // namespace vsae
