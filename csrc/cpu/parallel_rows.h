// Shares rows out to threads that live for one call: nothing spins beside torch's own pool between calls, and a
// process may fork at any time. Starting a thread costs tens of microseconds, a task of rows milliseconds.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace vsae {

class RowTasks {
   public:
    RowTasks(long n_rows, long rows_per_task, const std::function<bool()>* poll = nullptr)
        : n_rows_(n_rows), rows_per_task_(rows_per_task), poll_(poll) {}

    // The next run of rows for the thread that asks; false when none is left or the work was stopped.
    bool next(long* begin, long* end) {
        if (poll_ && std::this_thread::get_id() == owner_) poll_when_due();
        if (stopped_.load(std::memory_order_relaxed)) return false;
        *begin = next_.fetch_add(rows_per_task_, std::memory_order_relaxed);
        *end = std::min(*begin + rows_per_task_, n_rows_);
        return *begin < n_rows_;
    }

    bool stopped() const { return stopped_.load(std::memory_order_relaxed); }

   private:
    using Clock = std::chrono::steady_clock;
    static constexpr std::chrono::milliseconds kBetweenPolls{100};
    const std::thread::id owner_ = std::this_thread::get_id();
    Clock::time_point polled_ = Clock::now();
    std::atomic<long> next_{0};
    std::atomic<bool> stopped_{false};
    long n_rows_;
    long rows_per_task_;
    const std::function<bool()>* poll_;

    void poll_when_due() {
        const Clock::time_point now = Clock::now();
        if (now - polled_ < kBetweenPolls) return;
        polled_ = now;
        if (!(*poll_)()) stopped_.store(true, std::memory_order_relaxed);
    }
};

// Runs work(tasks) on up to n_threads threads, the calling one included, and rethrows the first exception. The calling
// thread asks `poll`, if there is one, every tenth of a second whether to go on; returns false where the work was
// stopped.
template <class Work>
bool parallel_rows(long n_rows, long rows_per_task, int n_threads, Work work,
                   const std::function<bool()>* poll = nullptr) {
    RowTasks tasks(n_rows, rows_per_task, poll);
    std::exception_ptr failure;
    std::mutex failure_lock;
    const auto guarded = [&] {
        try {
            work(tasks);
        } catch (...) {
            const std::lock_guard<std::mutex> lock(failure_lock);
            if (!failure) failure = std::current_exception();
        }
    };

    const long n_tasks = (n_rows + rows_per_task - 1) / rows_per_task;
    const long n_helpers = std::min<long>(n_threads, n_tasks) - 1;
    std::vector<std::thread> helpers;
    for (long i = 0; i < n_helpers; ++i) {
        try {
            helpers.emplace_back(guarded);
        } catch (const std::system_error&) {
            break;  // the system gives no more threads: the ones at hand do the work
        }
    }
    guarded();
    for (std::thread& helper : helpers) helper.join();
    if (failure) std::rethrow_exception(failure);
    return !tasks.stopped();
}

}  // namespace vsae
