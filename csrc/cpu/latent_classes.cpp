#include "cpu/latent_classes.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/parallel_rows.h"

namespace vsae {

namespace {

constexpr long kRowsPerTask = 64;
constexpr long kMostParts = 32;  // sums that are kept apart until the end

// Posterior of the classes, one row after another. Inner loops run over the classes, which are contiguous, so that
// compilers turn them into vectors without reordering a sum.
class Posterior {
   public:
    explicit Posterior(const LatentClasses& classes)
        : classes_(classes),
          log_weight_(logarithms(classes.weight, classes.n_classes)),
          log_level_(
              logarithms(classes.level, static_cast<long>(classes.start[classes.n_attributes]) * classes.n_classes)) {}

    // Of a row into posterior [K]; returns the log-likelihood of what the row has.
    double of(const int* level, double* posterior) const {
        const int n = classes_.n_classes;
        std::copy_n(log_weight_.data(), n, posterior);
        for (int a = 0; a < classes_.n_attributes; ++a) {
            if (level[a] < 0) continue;
            const double* own = log_level_.data() + static_cast<long>(classes_.start[a] + level[a]) * n;
            for (int k = 0; k < n; ++k) posterior[k] += own[k];
        }
        const double most = *std::max_element(posterior, posterior + n);
        double sum = 0;
        for (int k = 0; k < n; ++k)
            sum += posterior[k] = posterior[k] < most - kNegligibleClass ? 0.0 : std::exp(posterior[k] - most);
        for (int k = 0; k < n; ++k) posterior[k] /= sum;
        return most + std::log(sum);
    }

   private:
    const LatentClasses& classes_;
    const std::vector<double> log_weight_, log_level_;

    static std::vector<double> logarithms(const double* values, long n) {
        std::vector<double> result(static_cast<std::size_t>(n));
        std::transform(values, values + n, result.begin(), [](double value) { return std::log(value); });
        return result;
    }
};

}  // namespace

bool expected_counts(const LatentClasses& classes, const IncompleteLevels& rows, double* class_count,
                     double* level_count, double* log_likelihood, int n_threads, const std::function<bool()>& poll) {
    const Posterior posterior(classes);
    const long n = classes.n_classes, n_counts = n * classes.start[classes.n_attributes], of_part = n + n_counts + 1;
    const long rows_per_part = std::max(kRowsPerTask, (rows.n_rows + kMostParts - 1) / kMostParts);
    const long n_parts = (rows.n_rows + rows_per_part - 1) / rows_per_part;
    std::vector<double> sums(static_cast<std::size_t>(n_parts * of_part));  // a part's own, added up in their order
    const auto work = [&](RowTasks& tasks) {
        std::vector<double> own(static_cast<std::size_t>(n));
        for (long begin, end; tasks.next(&begin, &end);) {
            double* in_class = sums.data() + begin / rows_per_part * of_part;
            double* with_level = in_class + n;
            for (long row = begin; row < end; ++row) {
                const int* level = rows.level + row * classes.n_attributes;
                with_level[n_counts] += posterior.of(level, own.data());
                for (long k = 0; k < n; ++k) in_class[k] += own[k];
                for (int a = 0; a < classes.n_attributes; ++a) {
                    if (level[a] < 0) continue;
                    double* to = with_level + (classes.start[a] + level[a]) * n;
                    for (long k = 0; k < n; ++k) to[k] += own[k];
                }
            }
        }
    };
    if (!parallel_rows(rows.n_rows, rows_per_part, n_threads, work, &poll)) return false;
    std::fill_n(class_count, n, 0.0);
    std::fill_n(level_count, n_counts, 0.0);
    *log_likelihood = 0;
    for (long part = 0; part < n_parts; ++part) {
        const double* own = sums.data() + part * of_part;
        for (long k = 0; k < n; ++k) class_count[k] += own[k];
        for (long i = 0; i < n_counts; ++i) level_count[i] += own[n + i];
        *log_likelihood += own[n + n_counts];
    }
    return true;
}

}  // namespace vsae
