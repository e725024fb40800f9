// Latent classes: rows of levels are a mixture of products of categorical distributions. The sums that expectation
// maximisation needs; level_probabilities.h has what imputation needs. In double precision: a row's likelihood is a
// product of as many probabilities as it has levels.
#pragma once

#include <functional>

namespace vsae {

// Classes whose logarithm is so far below the likeliest one's count as none (2e-9 of it), which is below single
// precision.
inline constexpr double kNegligibleClass = 20;

struct LatentClasses {
    int n_classes;         // K
    int n_attributes;      // M
    const int* start;      // [M + 1], each attribute's first place among all levels; the last is D
    const double* weight;  // [K], of the classes
    const double* level;   // [D, K], probability of a level in a class; positive
};

struct IncompleteLevels {
    long n_rows;
    const int* level;  // [N, M], counted from 0 within the attribute; -1 where unobserved
};

// Over the rows, in one order whatever the threads: expected number of each class into class_count [K] and, with each
// observed level, into level_count [D, K]; and the sum of the observed levels' log-likelihoods. The calling thread asks
// `poll` from time to time whether to go on; returns false where it said no.
bool expected_counts(const LatentClasses& classes, const IncompleteLevels& rows, double* class_count,
                     double* level_count, double* log_likelihood, int n_threads, const std::function<bool()>& poll);

}  // namespace vsae
