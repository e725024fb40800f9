// Logits of the levels of one attribute, [width, S] of a block of samples, one vector of samples at a time.
#pragma once

#include "cpu/dense.h"

namespace vsae {
namespace VSAE_ISA {

static inline Vec largest_logit(const float* logits, int width) {
    Vec top = load(logits);
    for (int j = 1; j < width; ++j) top = max(top, load(logits + j * kBlock));
    return top;
}

// Replaces logits by their exponentials relative to the largest and returns the sum of these.
static inline Vec exponentiate(float* logits, int width) {
    const Vec top = largest_logit(logits, width);
    Vec sum{};
    for (int j = 0; j < width; ++j) {
        const Vec e = exp(load(logits + j * kBlock) - top);
        store(logits + j * kBlock, e);
        sum += e;
    }
    return sum;
}

}  // namespace VSAE_ISA
}  // namespace vsae
