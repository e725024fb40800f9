// Numbered tasks that one thread takes from the front, and others from the back once they have none of their own.
#pragma once

#include <atomic>
#include <cstdint>

namespace vsae {

class alignas(64) TaskQueue {
   public:
    // Tasks begin..end-1; not while others take.
    void fill(int begin, int end) {
        range_.store(pack(static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(end)),
                     std::memory_order_relaxed);
    }

    // The next task, or -1 where none is left.
    int take_front() {
        return take([](std::uint32_t& begin, std::uint32_t&) { return begin++; });
    }
    int take_back() {
        return take([](std::uint32_t&, std::uint32_t& end) { return --end; });
    }

   private:
    std::atomic<std::uint64_t> range_{0};

    static std::uint64_t pack(std::uint32_t begin, std::uint32_t end) {
        return static_cast<std::uint64_t>(begin) << 32 | end;
    }

    template <class Cut>
    int take(const Cut& cut) {
        std::uint64_t range = range_.load(std::memory_order_relaxed);
        for (;;) {
            auto begin = static_cast<std::uint32_t>(range >> 32), end = static_cast<std::uint32_t>(range);
            if (begin >= end) return -1;
            const auto task = static_cast<int>(cut(begin, end));
            if (range_.compare_exchange_weak(range, pack(begin, end), std::memory_order_relaxed)) return task;
        }
    }
};

}  // namespace vsae
