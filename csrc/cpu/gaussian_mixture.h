// A mixture of normal distributions of all columns with one covariance: expected values of what a row lacks, given what
// it has, and the sums that expectation maximisation needs (Little and Rubin 2002, section 11.2; McLachlan and Peel
// 2000, section 3.8). One component is a joint normal distribution. A covariance in common costs one Cholesky factor a
// row, whatever the number of components, and few rows can tell it. In double precision: covariances of columns that
// nearly follow from each other have eigenvalues far apart.
#pragma once

#include <functional>

namespace vsae {

struct GaussianMixture {
    int n_columns;             // D
    int n_components;          // C
    const double* log_weight;  // [C]
    const double* mean;        // [C, D]
    const double* covariance;  // [D, D], positive definite
};

struct IncompleteRows {
    long n_rows;
    const double* x;       // [N, D], not read where unobserved
    const bool* observed;  // [N, D]
};

struct ExpectedMoments {
    double* weight;  // [C], sums over the rows of the components' probabilities
    double* first;   // [C, D], of probability times E[x | component]
    double* second;  // [D, D], of E[x x']
};

// completed [N, D]: x where observed, E[x | what the row has] elsewhere. Every row is computed alone and in one order.
// The calling thread asks `poll` from time to time whether to go on; returns false where it said no.
bool conditional_means(const GaussianMixture& mixture, const IncompleteRows& rows, double* completed, int n_threads,
                       const std::function<bool()>& poll);

// Sums over the rows, each given what it has, in one order whatever the threads.
bool expected_moments(const GaussianMixture& mixture, const IncompleteRows& rows, const ExpectedMoments& sums,
                      int n_threads, const std::function<bool()>& poll);

}  // namespace vsae
