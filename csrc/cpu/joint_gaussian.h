// A joint normal distribution of all columns: expected values of what a row lacks, given what it has, and the sums that
// expectation maximisation needs (Little and Rubin 2002, section 11.2). In double precision: covariances of columns
// that nearly follow from each other have eigenvalues far apart.
#pragma once

#include <functional>

namespace vsae {

struct JointGaussian {
    int n_columns;             // D
    const double* mean;        // [D]
    const double* covariance;  // [D, D], positive definite
};

struct IncompleteRows {
    long n_rows;
    const double* x;       // [N, D], not read where unobserved
    const bool* observed;  // [N, D]
};

// completed [N, D]: x where observed, E[x | what the row has] elsewhere. Every row is computed alone and in one order.
// The calling thread asks `poll` from time to time whether to go on; returns false where it said no.
bool conditional_means(const JointGaussian& gaussian, const IncompleteRows& rows, double* completed, int n_threads,
                       const std::function<bool()>& poll);

// Sums over the rows of E[x] into first [D] and of E[x x'] into second [D, D], in one order whatever the threads.
bool expected_moments(const JointGaussian& gaussian, const IncompleteRows& rows, double* first, double* second,
                      int n_threads, const std::function<bool()>& poll);

}  // namespace vsae
