// Probabilities of the levels that rows lack, given those that they have: the average of several mixtures of latent
// classes (latent_classes.h).
#pragma once

#include <functional>
#include <vector>

#include "cpu/aligned_buffer.h"
#include "cpu/cpu_level.h"
#include "cpu/latent_classes.h"

namespace vsae {

struct OneHotRows {
    long n_rows;
    const float* x;        // [N, D], anything where unobserved
    const bool* observed;  // [N, D], one value for the levels of an attribute
};

// probability [N, D]: `x` itself of attributes that are observed. Mixtures have the same attributes and as many
// classes each. Every row is computed alone and in one order.
bool level_probabilities(const LatentClasses* mixtures, int n_mixtures, const OneHotRows& rows, float* probability,
                         CpuLevel cpu_level, int n_threads, const std::function<bool()>& poll);

// Mixtures side by side, each one's classes padded to whole vectors of any instruction set.
struct PackedMixtures {
    int n_mixtures, n_levels;
    int classes_each;          // whole lines
    int level_stride;          // of `level`, whole lines
    const double* log_weight;  // [mixtures * classes_each], so low where it pads that nothing is left of it
    const double* log_level;   // [D, mixtures * classes_each]
    const float* level;        // [mixtures * classes_each, level_stride], over the number of mixtures

    int n_classes() const { return n_mixtures * classes_each; }
};

// What a thread needs to work on a row.
struct LevelScratch {
    explicit LevelScratch(const PackedMixtures& mixtures)
        : place(static_cast<std::size_t>(mixtures.n_levels)),
          likely(static_cast<std::size_t>(mixtures.n_classes())),
          weight(static_cast<std::size_t>(mixtures.n_classes())),
          log_joint(mixtures.n_classes()),
          posterior(mixtures.n_classes()),
          average(mixtures.level_stride) {}

    std::vector<int> place;   // of the observed levels among all
    std::vector<int> likely;  // classes whose posterior is not 0, and that posterior
    std::vector<float> weight;
    AlignedArray<double> log_joint;
    AlignedBuffer posterior, average;
};

// Of one row, compiled once per instruction set.
using LevelsOfRow = void (*)(const PackedMixtures&, const float* x, const bool* observed, LevelScratch&, float* out);

}  // namespace vsae
