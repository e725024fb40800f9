#include "cpu/fma_peak.h"

#include <chrono>
#include <thread>
#include <vector>

namespace vsae {

namespace baseline {
extern const FmaLoop fma_loop;
}
#if defined(VSAE_X86)
namespace avx2 {
extern const FmaLoop fma_loop;
}
namespace avx512 {
extern const FmaLoop fma_loop;
}
#endif

namespace {

FmaLoop loop_for(CpuLevel level) {
#if defined(VSAE_X86)
    if (level == CpuLevel::kAvx2) return avx2::fma_loop;
    if (level == CpuLevel::kAvx512) return avx512::fma_loop;
#endif
    (void)level;
    return baseline::fma_loop;
}

}  // namespace

double fma_peak(int n_threads, double seconds, CpuLevel level) {
    using Clock = std::chrono::steady_clock;
    const FmaLoop loop = loop_for(level);
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
