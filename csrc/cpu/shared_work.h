// The kernels of a training step, large ones shared out to a team. Every value is computed by one thread in one order,
// so that the number of threads changes no bit.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "core/training_step.h"
#include "cpu/task_queue.h"
#include "cpu/thread_team.h"
#include "cpu/training_kernels.h"

namespace vsae {

class SharedWork {
   public:
    explicit SharedWork(const TrainingKernels& kernels) : kernels(kernels) {}

    static constexpr int kMaxParts = 8;

    const TrainingKernels& kernels;

    void set_threads(int n_threads) {
        if (team_ && !team_->usable()) team_.reset();  // forked
        if (n_threads <= 1)
            team_.reset();
        else if (!team_ || team_->size() != n_threads) {
            team_ = std::make_unique<ThreadTeam>(n_threads);
            queues_ = std::vector<TaskQueue>(static_cast<std::size_t>(n_threads));
        }
    }

    int n_threads() const { return team_ ? team_->size() : 1; }

    // Runs work(task, thread) once for each task = 0..n_tasks-1, each thread from its own run of them first, so that it
    // meets the same networks from step to step: they are in its cache, and the way to another core's can be long.
    // Kernels that a task calls stay on its thread; it has no tasks of its own.
    template <class Work>
    void tasks(int n_tasks, const Work& work) {
        if (!team_) {
            within_task_ = true;
            for (int task = 0; task < n_tasks; ++task) work(task, 0);
            within_task_ = false;
            return;
        }
        const int size = n_threads();
        for (int part = 0; part < size; ++part)
            queues_[static_cast<std::size_t>(part)].fill(n_tasks * part / size, n_tasks * (part + 1) / size);
        within_task_ = true;
        team_->run([&](int thread) {
            for (int task; (task = queues_[static_cast<std::size_t>(thread)].take_front()) >= 0;) work(task, thread);
            for (int other = thread + 1; other < thread + size; ++other)
                for (int task; (task = queues_[static_cast<std::size_t>(other % size)].take_back()) >= 0;)
                    work(task, thread);
        });
        within_task_ = false;
    }

    // Runs work(begin, end, thread) over parts of 0..n that together take about `terms` multiply-adds.
    template <class Work>
    void rows(long n, long terms, const Work& work) {
        if (!worth(terms)) return work(0L, n, 0);
        team_->run([&](int part) {
            const auto [begin, end] = share(n, kRowsPerTile, part, n_threads());
            if (begin < end) work(begin, end, part);
        });
    }

    // Whether `n` rows that take up to `terms` multiply-adds a layer are to be worked off in n_parts(n) parts. That
    // depends on the rows alone: sums over rows are then sums over parts, in one order whatever the number of threads.
    bool in_parts(long n, long terms) const {
        return !within_task_ && (n >= kManyRows || (n >= kManyRows / 2 && terms >= kTermsWorthParts));
    }

    static int n_parts(long n) { return static_cast<int>(std::clamp(n / kRowsPerPart, 1L, long{kMaxParts})); }

    // Runs work(part, begin, end) for each of `n_parts` parts of 0..n, each thread the same ones every time: a part's
    // rows stay in a core's cache from layer to layer.
    template <class Work>
    void parts(long n, int n_parts, bool shared, const Work& work) {
        const auto run = [&](int thread, int size) {
            for (int part = n_parts * thread / size; part < n_parts * (thread + 1) / size; ++part) {
                const auto [begin, end] = share(n, kRowsPerTile, part, n_parts);
                work(part, static_cast<int>(begin), static_cast<int>(end));
            }
        };
        if (!team_ || !shared || within_task_) return run(0, 1);
        team_->run([&](int thread) { run(thread, n_threads()); });
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
            const long begin = share(whole.forward.columns, kLine, part, n_threads()).begin;
            kernels.normalise_backward(
                {columns(whole.forward, part), whole.gradient + begin, whole.gamma + begin, whole.beta + begin});
        });
    }

   private:
    static constexpr long kWorthSharing = 1 << 19;  // multiply-adds; some ten microseconds
    static constexpr long kTermsPerNormalised = 16;
    static constexpr int kRowsPerTile = 12;
    static constexpr long kManyRows = 512;
    static constexpr long kRowsPerPart = 64;  // with fewer the weights are read too often
    static constexpr long kTermsWorthParts = 1 << 20;
    std::unique_ptr<ThreadTeam> team_;
    std::vector<TaskQueue> queues_;  // of each thread
    bool within_task_ = false;

    struct Range {
        long begin, end;
    };

    bool worth(long terms) const { return team_ && !within_task_ && terms >= kWorthSharing; }

    // One of `size` parts of 0..n in whole units.
    static Range share(long n, int unit, int part, int size) {
        const long units = (n + unit - 1) / unit;
        return {std::min(n, units * part / size * unit), std::min(n, units * (part + 1) / size * unit)};
    }

    Normalisation columns(const Normalisation& whole, int part) const {
        const auto [begin, end] = share(whole.columns, kLine, part, n_threads());
        Normalisation mine = whole;
        mine.columns = static_cast<int>(end - begin);
        for (float** p : {&mine.h, &mine.out, &mine.running_mean, &mine.running_var, &mine.mean, &mine.inverse})
            *p += begin;
        for (const float** p : {&mine.gamma, &mine.beta}) *p += begin;
        return mine;
    }
};

}  // namespace vsae
