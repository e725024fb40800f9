// Threads that stay for many short tasks: a trainer shares the products of a step out to them. They wait by spinning
// for some tens of microseconds, as long as the gaps within a step, and sleep between steps.
#pragma once

#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

namespace vsae {

class ThreadTeam {
   public:
    explicit ThreadTeam(int n_threads) : owner_(getpid()) {
        for (int part = 1; part < n_threads; ++part) helpers_.emplace_back([this, part] { serve(part); });
    }

    ~ThreadTeam() {
        if (!usable()) {
            // In a forked child the threads are gone: there is nobody to stop.
            for (std::thread& helper : helpers_) helper.detach();
            return;
        }
        stop_ = true;
        post();
        for (std::thread& helper : helpers_) helper.join();
    }

    ThreadTeam(const ThreadTeam&) = delete;
    ThreadTeam& operator=(const ThreadTeam&) = delete;

    int size() const { return static_cast<int>(helpers_.size()) + 1; }
    bool usable() const { return owner_ == getpid(); }

    // Runs work(part) for part = 0..size-1, the calling thread taking part 0. `work` must not throw.
    void run(const std::function<void(int)>& work) {
        work_ = &work;
        pending_.store(size() - 1, std::memory_order_relaxed);
        post();
        work(0);
        for (int spins = 0; pending_.load(std::memory_order_acquire) > 0; ++spins)
            if (spins > kSpins) std::this_thread::yield();
    }

   private:
    static constexpr int kSpins = 20000;
    const pid_t owner_;
    const std::function<void(int)>* work_ = nullptr;
    std::atomic<int> generation_{0};
    std::atomic<int> pending_{0};
    bool stop_ = false;  // published by post()
    std::vector<std::thread> helpers_;

    void post() {
        generation_.fetch_add(1, std::memory_order_release);
        generation_.notify_all();
    }

    void serve(int part) {
        for (int seen = 0;;) {
            for (int spins = 0; generation_.load(std::memory_order_acquire) == seen; ++spins)
                if (spins > kSpins) generation_.wait(seen, std::memory_order_acquire);
            ++seen;
            if (stop_) return;
            (*work_)(part);
            pending_.fetch_sub(1, std::memory_order_release);
        }
    }
};

}  // namespace vsae
