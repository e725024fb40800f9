#include "cpu/level_probabilities.h"

#include <algorithm>
#include <cmath>

#include "core/training_step.h"
#include "cpu/at_level.h"
#include "cpu/parallel_rows.h"

namespace vsae {

VSAE_AT_LEVEL(LevelsOfRow, levels_of_row)

namespace {

constexpr long kRowsPerTask = 128;
constexpr double kNothing = -1e30;  // logarithm of a class that pads

class Packed {
   public:
    Packed(const LatentClasses* mixtures, int n_mixtures)
        : n_levels_(mixtures->start[mixtures->n_attributes]),
          each_(whole_lines(mixtures->n_classes)),
          n_classes_(static_cast<long>(n_mixtures) * each_),
          log_weight_(n_classes_),
          log_level_(AlignedArray<double>::zeros(n_levels_ * n_classes_)),
          level_(AlignedBuffer::zeros(n_classes_ * whole_lines(n_levels_))) {
        std::fill_n(log_weight_.data(), n_classes_, kNothing);
        for (int m = 0; m < n_mixtures; ++m) add(mixtures[m], m, n_mixtures);
        view_ = {n_mixtures,         n_levels_,         each_,        whole_lines(n_levels_),
                 log_weight_.data(), log_level_.data(), level_.data()};
    }

    const PackedMixtures& view() const { return view_; }

   private:
    int n_levels_, each_;
    long n_classes_;
    AlignedArray<double> log_weight_, log_level_;
    AlignedBuffer level_;
    PackedMixtures view_;

    void add(const LatentClasses& own, int number, int n_mixtures) {
        for (int k = 0; k < own.n_classes; ++k) {
            const long to = static_cast<long>(number) * each_ + k;
            log_weight_.data()[to] = std::log(own.weight[k]);
            for (int d = 0; d < n_levels_; ++d) {
                const double level = own.level[static_cast<long>(d) * own.n_classes + k];
                log_level_.data()[d * n_classes_ + to] = std::log(level);
                level_.data()[to * whole_lines(n_levels_) + d] = static_cast<float>(level / n_mixtures);
            }
        }
    }
};

}  // namespace

bool level_probabilities(const LatentClasses* mixtures, int n_mixtures, const OneHotRows& rows, float* probability,
                         CpuLevel cpu_level, int n_threads, const std::function<bool()>& poll) {
    const Packed packed(mixtures, n_mixtures);
    const LevelsOfRow of_row = levels_of_row_at(cpu_level);
    const long n_levels = packed.view().n_levels;
    const auto work = [&](RowTasks& tasks) {
        LevelScratch scratch(packed.view());
        for (long begin, end; tasks.next(&begin, &end);)
            for (long at = begin * n_levels; at < end * n_levels; at += n_levels)
                of_row(packed.view(), rows.x + at, rows.observed + at, scratch, probability + at);
    };
    return parallel_rows(rows.n_rows, kRowsPerTask, n_threads, work, &poll);
}

}  // namespace vsae
