#include "cpu/score_curves.h"

#include "cpu/parallel_rows.h"

namespace vsae {

namespace {

constexpr long kRowsPerTask = 1024;  // of 32 columns: a third of a millisecond, as long as a thread takes to pay

double along(const double* start, const double* end, int n_knots, double x) {
    const int last = n_knots - 1;
    if (x < start[0] || x > start[last]) {
        const double slope = (end[last] - end[0]) / (start[last] - start[0]);
        return x < start[0] ? end[0] + (x - start[0]) * slope : end[last] + (x - start[last]) * slope;
    }
    int left = 0;  // the last knot but one at most, with start[left] <= x
    for (int n_left = last; n_left > 1;) {
        const int half = n_left / 2;
        left += start[left + half] <= x ? half : 0;
        n_left -= half;
    }
    return end[left] + (x - start[left]) * ((end[left + 1] - end[left]) / (start[left + 1] - start[left]));
}

}  // namespace

bool along_curves(const ScoreCurves& curves, long n_rows, int n_columns, double* x, int n_threads,
                  const std::function<bool()>& poll) {
    const auto work = [&](RowTasks& tasks) {
        for (long begin, end; tasks.next(&begin, &end);)
            for (int curve = 0; curve < curves.n_curves; ++curve) {  // one after the other: its knots stay in the cache
                const long first_knot = static_cast<long>(curve) * curves.n_knots;
                for (long row = begin; row < end; ++row) {
                    double& cell = x[row * n_columns + curves.columns[curve]];
                    cell = along(curves.start + first_knot, curves.end + first_knot, curves.n_knots, cell);
                }
            }
    };
    return parallel_rows(n_rows, kRowsPerTask, n_threads, work, &poll);
}

}  // namespace vsae
