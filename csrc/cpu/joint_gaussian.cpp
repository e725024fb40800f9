#include "cpu/joint_gaussian.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/parallel_rows.h"

namespace vsae {

namespace {

constexpr long kRowsPerTask = 64;
constexpr double kLeastPivot = 1e-12;  // of columns that follow from others, in which rounding is all that is left

// Conditions one row after another on what it has. Inner loops add to contiguous numbers, which compilers turn into
// vectors without reordering a sum.
class Conditioner {
   public:
    explicit Conditioner(const JointGaussian& gaussian)
        : gaussian_(gaussian),
          n_(gaussian.n_columns),
          factor_(static_cast<std::size_t>(n_) * n_),
          cross_(static_cast<std::size_t>(n_) * n_),
          column_(n_),
          solved_(n_) {
        seen_.reserve(n_);
        unseen_.reserve(n_);
    }

    // Expected values; where nothing is unseen there is nothing to do but to copy.
    void complete(const double* x, const bool* observed, double* completed) {
        split(observed);
        std::copy_n(x, n_, completed);
        if (unseen_.empty()) return;
        factorise();
        solve_forward(x);
        solve_backward();
        for (const int u : unseen_) {
            double sum = gaussian_.mean[u];
            const double* covariance = row(u);
            for (std::size_t i = 0; i < seen_.size(); ++i) sum += covariance[seen_[i]] * solved_[i];
            completed[u] = sum;
        }
    }

    // The same, and adds the row's E[x] and E[x x'] to the sums; of the latter the lower triangle.
    void add_moments(const double* x, const bool* observed, double* completed, double* first, double* second) {
        split(observed);
        std::copy_n(x, n_, completed);
        const int n_unseen = static_cast<int>(unseen_.size());
        if (n_unseen > 0) {
            factorise();
            solve_forward(x);
            solve_cross();
            for (int a = 0; a < n_unseen; ++a) column_[a] = gaussian_.mean[unseen_[a]];
            for (std::size_t i = 0; i < seen_.size(); ++i) {
                const double* w = cross_.data() + i * n_unseen;
                for (int a = 0; a < n_unseen; ++a) column_[a] += w[a] * solved_[i];
            }
            for (int a = 0; a < n_unseen; ++a) completed[unseen_[a]] = column_[a];
            add_conditional_covariance(second);
        }
        for (int i = 0; i < n_; ++i) {
            first[i] += completed[i];
            double* to = second + static_cast<long>(i) * n_;
            for (int j = 0; j <= i; ++j) to[j] += completed[i] * completed[j];
        }
    }

   private:
    const JointGaussian& gaussian_;
    const int n_;
    std::vector<int> seen_, unseen_;
    std::vector<double> factor_;  // Cholesky factor of what is seen, [seen, seen], lower triangle
    std::vector<double> cross_;   // its inverse times the covariance with what is unseen, [seen, unseen]
    std::vector<double> column_, solved_;

    const double* row(int column) const { return gaussian_.covariance + static_cast<long>(column) * n_; }

    void split(const bool* observed) {
        seen_.clear();
        unseen_.clear();
        for (int j = 0; j < n_; ++j) (observed[j] ? seen_ : unseen_).push_back(j);
    }

    void factorise() {
        const int n = static_cast<int>(seen_.size());
        for (int i = 0; i < n; ++i)
            for (int j = 0; j <= i; ++j) factor_[static_cast<std::size_t>(i) * n + j] = row(seen_[i])[seen_[j]];
        for (int k = 0; k < n; ++k) {
            double* pivot_row = factor_.data() + static_cast<std::size_t>(k) * n;
            const double pivot = std::sqrt(std::max(pivot_row[k], kLeastPivot));
            pivot_row[k] = pivot;
            for (int i = k + 1; i < n; ++i) {
                double& below = factor_[static_cast<std::size_t>(i) * n + k];
                below /= pivot;
                column_[i] = below;
            }
            for (int i = k + 1; i < n; ++i) {
                double* to = factor_.data() + static_cast<std::size_t>(i) * n;
                const double own = column_[i];
                for (int j = k + 1; j <= i; ++j) to[j] -= own * column_[j];
            }
        }
    }

    // solved = L^-1 (x - mean) of what is seen.
    void solve_forward(const double* x) {
        const int n = static_cast<int>(seen_.size());
        for (int i = 0; i < n; ++i) {
            const double* own = factor_.data() + static_cast<std::size_t>(i) * n;
            double sum = x[seen_[i]] - gaussian_.mean[seen_[i]];
            for (int j = 0; j < i; ++j) sum -= own[j] * solved_[j];
            solved_[i] = sum / own[i];
        }
    }

    // solved = L^-T solved.
    void solve_backward() {
        const int n = static_cast<int>(seen_.size());
        for (int i = n - 1; i >= 0; --i) {
            const double* own = factor_.data() + static_cast<std::size_t>(i) * n;
            solved_[i] /= own[i];
            for (int j = 0; j < i; ++j) solved_[j] -= own[j] * solved_[i];
        }
    }

    // cross = L^-1 covariance(seen, unseen).
    void solve_cross() {
        const int n = static_cast<int>(seen_.size()), n_unseen = static_cast<int>(unseen_.size());
        for (int i = 0; i < n; ++i) {
            const double* own = factor_.data() + static_cast<std::size_t>(i) * n;
            double* to = cross_.data() + static_cast<std::size_t>(i) * n_unseen;
            for (int a = 0; a < n_unseen; ++a) to[a] = row(seen_[i])[unseen_[a]];
            for (int j = 0; j < i; ++j) {
                const double* before = cross_.data() + static_cast<std::size_t>(j) * n_unseen;
                for (int a = 0; a < n_unseen; ++a) to[a] -= own[j] * before[a];
            }
            for (int a = 0; a < n_unseen; ++a) to[a] /= own[i];
        }
    }

    void add_conditional_covariance(double* second) {
        const int n = static_cast<int>(seen_.size()), n_unseen = static_cast<int>(unseen_.size());
        for (int a = 0; a < n_unseen; ++a) {
            for (int b = 0; b <= a; ++b) column_[b] = row(unseen_[a])[unseen_[b]];
            for (int i = 0; i < n; ++i) {
                const double* w = cross_.data() + static_cast<std::size_t>(i) * n_unseen;
                for (int b = 0; b <= a; ++b) column_[b] -= w[a] * w[b];
            }
            double* to = second + static_cast<long>(unseen_[a]) * n_;
            for (int b = 0; b <= a; ++b) to[unseen_[b]] += column_[b];
        }
    }
};

}  // namespace

bool conditional_means(const JointGaussian& gaussian, const IncompleteRows& rows, double* completed, int n_threads,
                       const std::function<bool()>& poll) {
    const long n = gaussian.n_columns;
    const auto work = [&](RowTasks& tasks) {
        Conditioner conditioner(gaussian);
        for (long begin, end; tasks.next(&begin, &end);)
            for (long row = begin; row < end; ++row)
                conditioner.complete(rows.x + row * n, rows.observed + row * n, completed + row * n);
    };
    return parallel_rows(rows.n_rows, kRowsPerTask, n_threads, work, &poll);
}

bool expected_moments(const JointGaussian& gaussian, const IncompleteRows& rows, double* first, double* second,
                      int n_threads, const std::function<bool()>& poll) {
    const long n = gaussian.n_columns, of_task = n + n * n;
    const long n_tasks = (rows.n_rows + kRowsPerTask - 1) / kRowsPerTask;
    std::vector<double> sums(static_cast<std::size_t>(n_tasks * of_task));  // a task's own, added up in their order
    const auto work = [&](RowTasks& tasks) {
        Conditioner conditioner(gaussian);
        std::vector<double> completed(static_cast<std::size_t>(n));
        for (long begin, end; tasks.next(&begin, &end);) {
            double* own = sums.data() + begin / kRowsPerTask * of_task;
            for (long row = begin; row < end; ++row)
                conditioner.add_moments(rows.x + row * n, rows.observed + row * n, completed.data(), own, own + n);
        }
    };
    if (!parallel_rows(rows.n_rows, kRowsPerTask, n_threads, work, &poll)) return false;
    std::fill_n(first, n, 0.0);
    std::fill_n(second, n * n, 0.0);
    for (long task = 0; task < n_tasks; ++task) {
        const double* own = sums.data() + task * of_task;
        for (long i = 0; i < n; ++i) first[i] += own[i];
        for (long i = 0; i < n * n; ++i) second[i] += own[n + i];
    }
    for (long i = 0; i < n; ++i)
        for (long j = 0; j < i; ++j) second[j * n + i] = second[i * n + j];
    return true;
}

}  // namespace vsae
