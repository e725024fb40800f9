// Increasing piecewise linear curves of some columns of a matrix, which go on beyond their ends with their average
// slope: from numbers to scores that are nearer to normal, and back.
#pragma once

#include <cstdint>
#include <functional>

namespace vsae {

struct ScoreCurves {
    int n_curves;                 // C
    int n_knots;                  // K, at least 2
    const std::int32_t* columns;  // [C], of the matrix
    const double* start;          // [C, K], increasing along a row
    const double* end;            // [C, K], increasing along a row
};

// Replaces every curve's column of x [N, D] by the curve's values there; NaN stays. Every cell is computed alone. The
// calling thread asks `poll` from time to time whether to go on; returns false where it said no.
bool along_curves(const ScoreCurves& curves, long n_rows, int n_columns, double* x, int n_threads,
                  const std::function<bool()>& poll);

}  // namespace vsae
