// Threads that stay for many short tasks: a trainer shares the products of a step out to them. They wait by spinning
// for a fifth of a millisecond, longer than the gaps within a step and between steps that follow each other: waking a
// thread that sleeps takes as long as a whole task (measured: tens of microseconds). Then they sleep. Parts of a task
// are claimed, the calling thread taking what no helper has begun: a helper that the system has put behind another
// thread (torch's pool spins for some milliseconds after its own work) costs its help, not a wait.
#pragma once

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace vsae {

class ThreadTeam {
   public:
    explicit ThreadTeam(int n_threads) : owner_(getpid()) {
        for (int part = 1; part < n_threads; ++part) helpers_.emplace_back([this] { serve(); });
    }

    ~ThreadTeam() {
        if (!usable()) {
            // In a forked child the threads are gone: there is nobody to stop.
            for (std::thread& helper : helpers_) helper.detach();
            return;
        }
        stop_.store(true, std::memory_order_relaxed);  // published by post()
        post();
        for (std::thread& helper : helpers_) helper.join();
    }

    ThreadTeam(const ThreadTeam&) = delete;
    ThreadTeam& operator=(const ThreadTeam&) = delete;

    int size() const { return static_cast<int>(helpers_.size()) + 1; }
    bool usable() const { return owner_ == getpid(); }

    // Runs work(part) once for each part = 0..size-1, the calling thread taking part 0. `work` must not throw.
    void run(const std::function<void(int)>& work) {
        work_ = &work;
        pending_.store(size() - 1, std::memory_order_relaxed);
        const std::uint32_t generation = generation_.load(std::memory_order_relaxed) + 1;
        ticket_.store(ticket(generation, 1), std::memory_order_release);
        post();
        work(0);
        work_off(generation);
        for (Spin spin; pending_.load(std::memory_order_acquire) > 0;)
            if (!spin.go_on()) std::this_thread::yield();
    }

   private:
    // Bounded by time, not by count: an iteration takes from one to a hundred cycles.
    class Spin {
       public:
        bool go_on() {
            pause();
            return ++count_ % kBetweenLooks != 0 || Clock::now() < end_;
        }

       private:
        using Clock = std::chrono::steady_clock;
        static constexpr int kBetweenLooks = 64;
        Clock::time_point end_ = Clock::now() + std::chrono::microseconds(200);
        int count_ = 0;

        static void pause() {
#if defined(VSAE_X86)
            __builtin_ia32_pause();
#endif
        }
    };

    const pid_t owner_;
    const std::function<void(int)>* work_ = nullptr;  // read by who has claimed a part of it
    std::atomic<std::uint32_t> generation_{0};
    std::atomic<std::uint64_t> ticket_{0};  // generation and next unclaimed part
    std::atomic<int> pending_{0};
    std::atomic<bool> stop_{false};  // read by helpers that are late for the work before, too
    std::vector<std::thread> helpers_;

    static std::uint64_t ticket(std::uint32_t generation, int part) {
        return static_cast<std::uint64_t>(generation) << 32 | static_cast<std::uint32_t>(part);
    }

    void work_off(std::uint32_t generation) {
        std::uint64_t next = ticket_.load(std::memory_order_acquire);
        while (next >= ticket(generation, 0) && next < ticket(generation, size())) {
            if (!ticket_.compare_exchange_weak(next, next + 1, std::memory_order_acq_rel)) continue;
            (*work_)(static_cast<int>(next & 0xffffffffu));
            pending_.fetch_sub(1, std::memory_order_release);
            next = ticket_.load(std::memory_order_acquire);
        }
    }

    void post() {
        generation_.fetch_add(1, std::memory_order_release);
        generation_.notify_all();
    }

    void serve() {
        for (std::uint32_t seen = 0;;) {
            for (Spin spin; generation_.load(std::memory_order_acquire) == seen;)
                if (!spin.go_on()) generation_.wait(seen, std::memory_order_acquire);
            seen = generation_.load(std::memory_order_acquire);
            if (stop_.load(std::memory_order_relaxed)) return;
            work_off(seen);
        }
    }
};

}  // namespace vsae
