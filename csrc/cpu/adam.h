// Adam on a flat run of parameters.
#pragma once

#include "core/training_step.h"
#include "cpu/simd.h"

namespace vsae {
namespace VSAE_ISA {

static void adam(const AdamStep& s) {
    const float kBeta1 = 0.9f, kBeta2 = 0.999f, kEpsilon = 1e-8f;
    const float rate = s.learning_rate / s.first_correction;
    const float root = 1.0f / __builtin_sqrtf(s.second_correction);
    const float keep = 1.0f - s.learning_rate * s.weight_decay;
    for (long i = 0; i < s.n; i += kLanes) {
        const Vec gradient = s.gradient_factor * load(s.gradient + i);
        const Vec first = load(s.first + i) + (1.0f - kBeta1) * (gradient - load(s.first + i));
        const Vec second = kBeta2 * load(s.second + i) + (1.0f - kBeta2) * (gradient * gradient);
        store(s.first + i, first);
        store(s.second + i, second);
        store(s.parameter + i, keep * load(s.parameter + i) - rate * first / (square_root(second) * root + kEpsilon));
    }
}

static double squared_norm(const float* x, long n) {
    Sum sum;
    for (long i = 0; i < n; i += kLanes) sum.add(load(x + i) * load(x + i));
    return horizontal_sum(sum.total);
}

}  // namespace VSAE_ISA
}  // namespace vsae
