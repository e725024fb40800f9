// Owns one dense layer packed as in core/tile.h.
#pragma once

#include "core/importance_impute.h"
#include "core/tile.h"
#include "cpu/aligned_buffer.h"

namespace vsae {

class PackedLayer {
   public:
    PackedLayer(const float* weight, const float* bias, int n_in, int n_out, bool activation)
        : weight_(static_cast<long>(padded(n_out)) * n_in),
          bias_(padded(n_out)),
          view_{n_in, n_out, activation, weight_.data(), bias_.data()} {
        for (int out = 0; out < padded(n_out); ++out) {
            const bool real = out < n_out;
            pack_row(weight_.data(), out, n_in, real ? weight + static_cast<long>(out) * n_in : nullptr, nullptr, 1.0f);
            bias_.data()[out] = real ? bias[out] : 0.0f;
        }
    }
    PackedLayer(PackedLayer&&) = default;

    DenseLayer view() const { return view_; }

   private:
    AlignedBuffer weight_;
    AlignedBuffer bias_;
    DenseLayer view_;
};

}  // namespace vsae
