// Shares rows out to threads that live for one call: nothing spins beside torch's own pool between calls, and a
// process may fork at any time. Starting a thread costs tens of microseconds, a task of rows milliseconds.
#pragma once

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace vsae {

class RowTasks {
   public:
    RowTasks(long n_rows, long rows_per_task) : n_rows_(n_rows), rows_per_task_(rows_per_task) {}

    bool next(long* begin, long* end) {
        *begin = next_.fetch_add(rows_per_task_, std::memory_order_relaxed);
        *end = std::min(*begin + rows_per_task_, n_rows_);
        return *begin < n_rows_;
    }

   private:
    std::atomic<long> next_{0};
    long n_rows_;
    long rows_per_task_;
};

// Runs work(tasks) on up to n_threads threads, the calling one included, and rethrows the first exception.
template <class Work>
void parallel_rows(long n_rows, long rows_per_task, int n_threads, Work work) {
    RowTasks tasks(n_rows, rows_per_task);
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
}

}  // namespace vsae
