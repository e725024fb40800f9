#include "cpu/round_trip.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif

namespace vsae {

#if defined(__linux__)

namespace {

constexpr int kTrips = 2000, kRepeats = 3;

std::vector<int> processors() {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    std::vector<int> found;
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0)
        for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
            if (CPU_ISSET(cpu, &allowed)) found.push_back(cpu);
    return found;
}

bool bind_to(int cpu) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    return pthread_setaffinity_np(pthread_self(), sizeof one, &one) == 0;
}

}  // namespace

double round_trip() {
    const std::vector<int> cpus = processors();
    if (cpus.size() < 2) return std::numeric_limits<double>::quiet_NaN();
    alignas(64) std::atomic<int> there{0};
    alignas(64) std::atomic<int> back{0};
    std::atomic<int> bound{0};
    // Both wait for the other to be bound, or to have failed: on one processor they would wait for time slices.
    const auto meet = [&](int cpu) {
        bound.fetch_add(bind_to(cpu) ? 1 : 3);
        while (bound.load() != 2 && bound.load() < 4) std::this_thread::yield();
        return bound.load() == 2;
    };
    double least = std::numeric_limits<double>::infinity();
    std::thread echo([&] {
        if (!meet(cpus[1])) return;
        for (int trip = 1; trip <= kTrips * kRepeats; ++trip) {
            while (there.load(std::memory_order_acquire) != trip) continue;
            back.store(trip, std::memory_order_release);
        }
    });
    std::thread caller([&] {
        if (!meet(cpus[0])) return;
        for (int repeat = 0, trip = 0; repeat < kRepeats; ++repeat) {
            const auto begin = std::chrono::steady_clock::now();
            for (int i = 0; i < kTrips; ++i) {
                there.store(++trip, std::memory_order_release);
                while (back.load(std::memory_order_acquire) != trip) continue;
            }
            const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
            least = std::min(least, elapsed.count() / kTrips);
        }
    });
    echo.join();
    caller.join();
    return least < std::numeric_limits<double>::infinity() ? least : std::numeric_limits<double>::quiet_NaN();
}

#else

double round_trip() { return std::numeric_limits<double>::quiet_NaN(); }

#endif

}  // namespace vsae
