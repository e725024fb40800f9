// The kernels of a training step, large ones shared out to a team. Every value is computed by one thread in one order,
// so that the number of threads changes no bit.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>

#include "core/training_step.h"
#include "cpu/thread_team.h"
#include "cpu/training_kernels.h"

namespace vsae {

class SharedWork {
   public:
    explicit SharedWork(const TrainingKernels& kernels) : kernels(kernels) {}

    const TrainingKernels& kernels;

    void set_threads(int n_threads) {
        if (team_ && !team_->usable()) team_.reset();  // forked
        if (n_threads <= 1)
            team_.reset();
        else if (!team_ || team_->size() != n_threads)
            team_ = std::make_unique<ThreadTeam>(n_threads);
    }

    int n_threads() const { return team_ ? team_->size() : 1; }

    // Runs work(task, thread) once for each task = 0..n_tasks-1. Kernels that a task calls stay on its thread.
    template <class Work>
    void tasks(int n_tasks, const Work& work) {
        if (!team_ || within_task_) {
            for (int task = 0; task < n_tasks; ++task) work(task, 0);
            return;
        }
        std::atomic<int> next{0};
        within_task_ = true;
        team_->run([&](int thread) {
            for (int task; (task = next.fetch_add(1, std::memory_order_relaxed)) < n_tasks;) work(task, thread);
        });
        within_task_ = false;
    }

    // Runs work(begin, end, thread) over parts of 0..n that together take about `terms` multiply-adds.
    template <class Work>
    void rows(long n, long terms, const Work& work) {
        if (!worth(terms)) return work(0L, n, 0);
        team_->run([&](int part) {
            const auto [begin, end] = share(n, kRowsPerTile, part);
            if (begin < end) work(begin, end, part);
        });
    }

    void product(const Product& whole) {
        rows(whole.m, static_cast<long>(whole.m) * whole.n * whole.k, [&](long begin, long end, int) {
            Product mine = whole;
            mine.a += begin * whole.a_row;
            mine.c += begin * whole.c_row;
            mine.m = static_cast<int>(end - begin);
            kernels.product(mine);
        });
    }

    void normalise(Normalisation& whole) {
        if (!worth(kTermsPerNormalised * whole.rows * whole.columns)) return kernels.normalise(whole);
        bool from_batch = false;
        team_->run([&](int part) {
            Normalisation mine = columns(whole, part);
            kernels.normalise(mine);
            if (part == 0) from_batch = mine.from_batch;
        });
        whole.from_batch = from_batch;
    }

    void normalise_backward(const NormalisationGradient& whole) {
        const long terms = kTermsPerNormalised * whole.forward.rows * whole.forward.columns;
        if (!worth(terms)) return kernels.normalise_backward(whole);
        team_->run([&](int part) {
            const long begin = share(whole.forward.columns, kLine, part).begin;
            kernels.normalise_backward(
                {columns(whole.forward, part), whole.gradient + begin, whole.gamma + begin, whole.beta + begin});
        });
    }

   private:
    static constexpr long kWorthSharing = 1 << 19;  // multiply-adds; some ten microseconds
    static constexpr long kTermsPerNormalised = 16;
    static constexpr int kRowsPerTile = 12;
    std::unique_ptr<ThreadTeam> team_;
    bool within_task_ = false;

    struct Range {
        long begin, end;
    };

    bool worth(long terms) const { return team_ && !within_task_ && terms >= kWorthSharing; }

    // Part of 0..n in whole units.
    Range share(long n, int unit, int part) const {
        const long units = (n + unit - 1) / unit, size = n_threads();
        return {std::min(n, units * part / size * unit), std::min(n, units * (part + 1) / size * unit)};
    }

    Normalisation columns(const Normalisation& whole, int part) const {
        const auto [begin, end] = share(whole.columns, kLine, part);
        Normalisation mine = whole;
        mine.columns = static_cast<int>(end - begin);
        for (float** p : {&mine.h, &mine.out, &mine.running_mean, &mine.running_var, &mine.inverse}) *p += begin;
        for (const float** p : {&mine.gamma, &mine.beta}) *p += begin;
        return mine;
    }
};

}  // namespace vsae
