#include "cpu/gaussian_mixture.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/parallel_rows.h"

namespace vsae {

namespace {

constexpr long kRowsPerTask = 64;
constexpr double kLeastPivot = 1e-12;  // of columns that follow from others, in which rounding is all that is left

// Conditions one row after another on what it has. Inner loops add to contiguous numbers, which compilers turn into
// vectors without reordering a sum: kTogether components at once in registers, 1 where there is only one. Components up
// to the next multiple have probability 0.
template <int kTogether>
class Conditioner {
   public:
    explicit Conditioner(const GaussianMixture& mixture)
        : mixture_(mixture),
          n_(mixture.n_columns),
          n_components_((mixture.n_components + kTogether - 1) / kTogether * kTogether),
          factor_(square(n_)),
          cross_(square(n_)),
          mean_(by_component(n_)),
          solved_(by_component(n_)),
          filled_(by_component(n_)),
          deviation_(by_component(n_)),
          probability_(n_components_),
          weighted_(n_components_),
          column_(n_),
          pooled_(n_) {
        seen_.reserve(n_);
        unseen_.reserve(n_);
        for (int c = 0; c < mixture.n_components; ++c)
            for (int j = 0; j < n_; ++j) mean_[by_component(j) + c] = mixture.mean[static_cast<long>(c) * n_ + j];
    }

    // Expected values; where nothing is unseen there is nothing to do but to copy.
    void complete(const double* x, const bool* observed, double* completed) {
        split(observed);
        std::copy_n(x, n_, completed);
        if (unseen_.empty()) return;
        factorise();
        solve_forward(x);
        find_probabilities();
        for (std::size_t i = 0; i < seen_.size(); ++i) pooled_[i] = average(solved_.data() + by_component(i));
        solve_backward();
        for (const int u : unseen_) {
            double sum = average(mean_.data() + by_component(u));
            const double* covariance = row(u);
            for (std::size_t i = 0; i < seen_.size(); ++i) sum += covariance[seen_[i]] * pooled_[i];
            completed[u] = sum;
        }
    }

    // Adds the row's expectations to the sums; of `second` the lower triangle.
    void add_moments(const double* x, const bool* observed, const ExpectedMoments& sums) {
        split(observed);
        std::copy_n(x, n_, pooled_.data());
        if (!unseen_.empty() || kSeveral) {
            factorise();
            solve_forward(x);
        }
        find_probabilities();
        if (!unseen_.empty()) {
            solve_cross();
            fill();
            for (std::size_t a = 0; a < unseen_.size(); ++a) pooled_[unseen_[a]] = average(filled(a));
            add_conditional_covariance(sums.second);
            if (kSeveral) add_covariance_of_components(sums.second);
        }
        for (int c = 0; c < mixture_.n_components; ++c) {
            const double own = probability_[c];
            double* to = sums.first + static_cast<long>(c) * n_;
            sums.weight[c] += own;
            for (const int s : seen_) to[s] += own * x[s];
            for (std::size_t a = 0; a < unseen_.size(); ++a) to[unseen_[a]] += own * filled(a)[c];
        }
        for (int i = 0; i < n_; ++i) {
            double* to = sums.second + static_cast<long>(i) * n_;
            for (int j = 0; j <= i; ++j) to[j] += pooled_[i] * pooled_[j];
        }
    }

   private:
    static constexpr bool kSeveral = kTogether > 1;
    const GaussianMixture& mixture_;
    const int n_, n_components_;
    std::vector<int> seen_, unseen_;
    std::vector<double> factor_;       // Cholesky factor of what is seen, [seen, seen], lower triangle
    std::vector<double> cross_;        // its inverse times the covariance with what is unseen, [seen, unseen]
    std::vector<double> mean_;         // [D, C]
    std::vector<double> solved_;       // inverse of the factor times deviations from the means, [seen, C]
    std::vector<double> filled_;       // E[x | component] of what is unseen, [unseen, C]
    std::vector<double> deviation_;    // of these from their average, [unseen, C]
    std::vector<double> probability_;  // of the components given what is seen, [C]
    std::vector<double> weighted_;     // a column's deviations by probability, [C]
    std::vector<double> column_, pooled_;

    static std::size_t square(int n) { return static_cast<std::size_t>(n) * n; }
    std::size_t by_component(std::size_t j) const { return j * n_components_; }
    const double* row(int column) const { return mixture_.covariance + static_cast<long>(column) * n_; }
    const double* filled(std::size_t unseen) const { return filled_.data() + by_component(unseen); }

    double average(const double* of_components) const {
        double sum[kTogether] = {}, total = 0;
        for (int c = 0; c < n_components_; c += kTogether)
            for (int t = 0; t < kTogether; ++t) sum[t] += probability_[c + t] * of_components[c + t];
        for (int t = 0; t < kTogether; ++t) total += sum[t];
        return total;
    }

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
            const double* mean = mean_.data() + by_component(seen_[i]);
            const double value = x[seen_[i]];
            for (int c = 0; c < n_components_; c += kTogether) {
                double sum[kTogether];
                for (int t = 0; t < kTogether; ++t) sum[t] = value - mean[c + t];
                const double* before = solved_.data() + c;
                for (int j = 0; j < i; ++j, before += n_components_)
                    for (int t = 0; t < kTogether; ++t) sum[t] -= own[j] * before[t];
                for (int t = 0; t < kTogether; ++t) solved_[by_component(i) + c + t] = sum[t] / own[i];
            }
        }
    }

    // The factor's determinant is the same for all.
    void find_probabilities() {
        if (!kSeveral) {
            probability_[0] = 1;
            return;
        }
        const int n_real = mixture_.n_components;
        std::copy_n(mixture_.log_weight, n_real, probability_.data());
        for (std::size_t i = 0; i < seen_.size(); ++i) {
            const double* own = solved_.data() + by_component(i);
            for (int c = 0; c < n_real; ++c) probability_[c] -= 0.5 * own[c] * own[c];
        }
        const double top = *std::max_element(probability_.data(), probability_.data() + n_real);
        double total = 0;
        for (int c = 0; c < n_real; ++c) total += probability_[c] = std::exp(probability_[c] - top);
        for (int c = 0; c < n_real; ++c) probability_[c] /= total;
    }

    // pooled = L^-T pooled.
    void solve_backward() {
        const int n = static_cast<int>(seen_.size());
        for (int i = n - 1; i >= 0; --i) {
            const double* own = factor_.data() + static_cast<std::size_t>(i) * n;
            pooled_[i] /= own[i];
            for (int j = 0; j < i; ++j) pooled_[j] -= own[j] * pooled_[i];
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

    void fill() {
        const std::size_t n_unseen = unseen_.size();
        for (std::size_t a = 0; a < n_unseen; ++a) {
            const double* mean = mean_.data() + by_component(unseen_[a]);
            for (int c = 0; c < n_components_; c += kTogether) {
                double sum[kTogether];
                for (int t = 0; t < kTogether; ++t) sum[t] = mean[c + t];
                const double *w = cross_.data() + a, *own = solved_.data() + c;
                for (std::size_t i = 0; i < seen_.size(); ++i, w += n_unseen, own += n_components_)
                    for (int t = 0; t < kTogether; ++t) sum[t] += *w * own[t];
                for (int t = 0; t < kTogether; ++t) filled_[by_component(a) + c + t] = sum[t];
            }
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

    // Of what the components expect, which differs where rows lack what would tell them apart.
    void add_covariance_of_components(double* second) {
        const std::size_t n_unseen = unseen_.size();
        for (std::size_t a = 0; a < n_unseen; ++a) {
            const double* own = filled(a);
            for (int c = 0; c < n_components_; ++c) deviation_[by_component(a) + c] = own[c] - pooled_[unseen_[a]];
        }
        for (std::size_t a = 0; a < n_unseen; ++a) {
            for (int c = 0; c < n_components_; ++c) weighted_[c] = probability_[c] * deviation_[by_component(a) + c];
            double* to = second + static_cast<long>(unseen_[a]) * n_;
            for (std::size_t b = 0; b <= a; ++b) {
                const double* other = deviation_.data() + by_component(b);
                double sum[kTogether] = {}, total = 0;
                for (int c = 0; c < n_components_; c += kTogether)
                    for (int t = 0; t < kTogether; ++t) sum[t] += weighted_[c + t] * other[c + t];
                for (int t = 0; t < kTogether; ++t) total += sum[t];
                to[unseen_[b]] += total;
            }
        }
    }
};

constexpr int kSeveralTogether = 8;  // sums in registers of two doubles, and enough of them to hide latencies

// Calls `work` with a number of components that go together.
template <class Work>
bool by_components(const GaussianMixture& mixture, const Work& work) {
    return mixture.n_components == 1 ? work.template operator()<1>() : work.template operator()<kSeveralTogether>();
}

}  // namespace

bool conditional_means(const GaussianMixture& mixture, const IncompleteRows& rows, double* completed, int n_threads,
                       const std::function<bool()>& poll) {
    const long n = mixture.n_columns;
    return by_components(mixture, [&]<int kTogether>() {
        const auto work = [&](RowTasks& tasks) {
            Conditioner<kTogether> conditioner(mixture);
            for (long begin, end; tasks.next(&begin, &end);)
                for (long row = begin; row < end; ++row)
                    conditioner.complete(rows.x + row * n, rows.observed + row * n, completed + row * n);
        };
        return parallel_rows(rows.n_rows, kRowsPerTask, n_threads, work, &poll);
    });
}

bool expected_moments(const GaussianMixture& mixture, const IncompleteRows& rows, const ExpectedMoments& sums,
                      int n_threads, const std::function<bool()>& poll) {
    const long n = mixture.n_columns, n_components = mixture.n_components;
    const long of_task = n_components + n_components * n + n * n;
    const long n_tasks = (rows.n_rows + kRowsPerTask - 1) / kRowsPerTask;
    std::vector<double> parts(static_cast<std::size_t>(n_tasks * of_task));  // a task's own, added up in their order
    const bool whole = by_components(mixture, [&]<int kTogether>() {
        const auto work = [&](RowTasks& tasks) {
            Conditioner<kTogether> conditioner(mixture);
            for (long begin, end; tasks.next(&begin, &end);) {
                double* own = parts.data() + begin / kRowsPerTask * of_task;
                const ExpectedMoments part{own, own + n_components, own + n_components + n_components * n};
                for (long row = begin; row < end; ++row)
                    conditioner.add_moments(rows.x + row * n, rows.observed + row * n, part);
            }
        };
        return parallel_rows(rows.n_rows, kRowsPerTask, n_threads, work, &poll);
    });
    if (!whole) return false;
    const auto add_up = [&](long offset, long count, double* to) {
        std::fill_n(to, count, 0.0);
        for (long task = 0; task < n_tasks; ++task) {
            const double* own = parts.data() + task * of_task + offset;
            for (long i = 0; i < count; ++i) to[i] += own[i];
        }
    };
    add_up(0, n_components, sums.weight);
    add_up(n_components, n_components * n, sums.first);
    add_up(n_components + n_components * n, n * n, sums.second);
    for (long i = 0; i < n; ++i)
        for (long j = 0; j < i; ++j) sums.second[j * n + i] = sums.second[i * n + j];
    return true;
}

}  // namespace vsae
