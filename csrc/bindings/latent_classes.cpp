#include "bindings/latent_classes.h"

#include <cstdint>
#include <vector>

#include "bindings/addresses.h"
#include "bindings/signals.h"
#include "cpu/latent_classes.h"
#include "cpu/level_probabilities.h"

namespace py = pybind11;

namespace vsae {

void bind_latent_classes(py::module_& module) {
    module.def(
        "level_probabilities",
        [](int n_mixtures, int n_classes, int n_attributes, std::uintptr_t start, std::uintptr_t weight,
           std::uintptr_t level, long n_rows, std::uintptr_t x, std::uintptr_t observed, std::uintptr_t probability,
           int n_threads) {
            const int n_levels = at<const int>(start)[n_attributes];
            std::vector<LatentClasses> mixtures;
            for (int m = 0; m < n_mixtures; ++m)
                mixtures.push_back({n_classes, n_attributes, at<const int>(start),
                                    at<const double>(weight) + static_cast<long>(m) * n_classes,
                                    at<const double>(level) + static_cast<long>(m) * n_levels * n_classes});
            const CpuLevel cpu_level = active_level();
            run_interruptibly([&] {
                return level_probabilities(mixtures.data(), n_mixtures,
                                           {n_rows, at<const float>(x), at<const bool>(observed)},
                                           at<float>(probability), cpu_level, n_threads, no_signal);
            });
        },
        py::arg("n_mixtures"), py::arg("n_classes"), py::arg("n_attributes"), py::arg("start"), py::arg("weight"),
        py::arg("level"), py::arg("n_rows"), py::arg("x"), py::arg("observed"), py::arg("probability"),
        py::arg("n_threads"));
    module.def(
        "expected_counts",
        [](int n_classes, int n_attributes, std::uintptr_t start, std::uintptr_t weight, std::uintptr_t level,
           long n_rows, std::uintptr_t levels, std::uintptr_t class_count, std::uintptr_t level_count,
           std::uintptr_t log_likelihood, int n_threads) {
            run_interruptibly([&] {
                return expected_counts(
                    {n_classes, n_attributes, at<const int>(start), at<const double>(weight), at<const double>(level)},
                    {n_rows, at<const int>(levels)}, at<double>(class_count), at<double>(level_count),
                    at<double>(log_likelihood), n_threads, no_signal);
            });
        },
        py::arg("n_classes"), py::arg("n_attributes"), py::arg("start"), py::arg("weight"), py::arg("level"),
        py::arg("n_rows"), py::arg("levels"), py::arg("class_count"), py::arg("level_count"), py::arg("log_likelihood"),
        py::arg("n_threads"));
}

}  // namespace vsae
