// Threads that stay for many short tasks: a trainer shares the products of a step out to them. They wait by spinning
// for a fifth of a millisecond, longer than the gaps within a step and between steps that follow each other: waking a
// thread that sleeps takes as long as a whole task (measured: tens of microseconds). Then they sleep. Each helper has a
// part of its own, whose data it finds in its cache again, but the calling thread takes what no helper has begun: a
// helper that the system has put behind another thread (torch's pool spins for some milliseconds after its own work)
// costs its help, not a wait.
#pragma once

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace vsae {

class ThreadTeam {
   public:
    explicit ThreadTeam(int n_threads)
        : owner_(getpid()), parts_(std::make_unique<Part[]>(static_cast<std::size_t>(n_threads))) {
        for (int part = 1; part < n_threads; ++part) helpers_.emplace_back([this, part] { serve(part); });
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
        post();
        const std::uint32_t generation = generation_.load(std::memory_order_relaxed);
        work(0);
        for (int part = 1; part < size(); ++part)
            if (claim(part, generation)) {
                work(part);
                finish(part, generation);
            }
        for (int part = 1; part < size(); ++part)
            for (Spin spin; parts_[part].done.load(std::memory_order_acquire) != generation;)
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

    // Every generation of work has each part begun and done once, in cache lines of their own.
    struct alignas(64) Part {
        std::atomic<std::uint32_t> begun{0}, done{0};
    };

    const pid_t owner_;
    std::unique_ptr<Part[]> parts_;
    alignas(64) std::atomic<std::uint32_t> generation_{0};
    const std::function<void(int)>* work_ = nullptr;  // read by who has claimed a part of it
    std::atomic<bool> stop_{false};                   // read by helpers that are late for the work before, too
    std::vector<std::thread> helpers_;

    // A helper that is late for its generation fails: the calling thread has begun its part, and perhaps the next one.
    bool claim(int part, std::uint32_t generation) {
        std::uint32_t before = generation - 1;
        return parts_[part].begun.compare_exchange_strong(before, generation, std::memory_order_relaxed);
    }

    void finish(int part, std::uint32_t generation) { parts_[part].done.store(generation, std::memory_order_release); }

    void post() {
        generation_.fetch_add(1, std::memory_order_release);
        generation_.notify_all();
    }

    void serve(int part) {
        for (std::uint32_t seen = 0;;) {
            for (Spin spin; generation_.load(std::memory_order_acquire) == seen;)
                if (!spin.go_on()) generation_.wait(seen, std::memory_order_acquire);
            seen = generation_.load(std::memory_order_acquire);
            if (stop_.load(std::memory_order_relaxed)) return;
            if (!claim(part, seen)) continue;
            (*work_)(part);
            finish(part, seen);
        }
    }
};

}  // namespace vsae
