#include "cpu/fma_peak.h"

#include <chrono>
#include <thread>
#include <vector>

#include "cpu/at_level.h"

namespace vsae {

VSAE_AT_LEVEL(FmaLoop, fma_loop)

double fma_peak(int n_threads, double seconds, CpuLevel level) {
    using Clock = std::chrono::steady_clock;
    const FmaLoop loop = fma_loop_at(level);
    std::vector<double> rates(static_cast<std::size_t>(n_threads));
    const auto measure = [&](int thread) {
        double operations = 0;
        const auto begin = Clock::now();
        std::chrono::duration<double> elapsed{};
        do {
            operations += loop(100000);
            elapsed = Clock::now() - begin;
        } while (elapsed.count() < seconds);
        rates[static_cast<std::size_t>(thread)] = operations / elapsed.count();
    };
    std::vector<std::thread> helpers;
    for (int t = 1; t < n_threads; ++t) helpers.emplace_back(measure, t);
    measure(0);
    for (std::thread& helper : helpers) helper.join();
    double total = 0;
    for (const double rate : rates) total += rate;
    return total / 1e9;
}

}  // namespace vsae
