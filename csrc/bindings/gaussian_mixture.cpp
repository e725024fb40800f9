#include "bindings/gaussian_mixture.h"

#include <cstdint>

#include "bindings/addresses.h"
#include "bindings/signals.h"
#include "cpu/gaussian_mixture.h"

namespace py = pybind11;

namespace vsae {

void bind_gaussian_mixture(py::module_& module) {
    module.def(
        "conditional_means",
        [](int n_columns, int n_components, std::uintptr_t log_weight, std::uintptr_t mean, std::uintptr_t covariance,
           long n_rows, std::uintptr_t x, std::uintptr_t observed, std::uintptr_t completed, int n_threads) {
            const GaussianMixture mixture{n_columns, n_components, at<const double>(log_weight), at<const double>(mean),
                                          at<const double>(covariance)};
            run_interruptibly([&] {
                return conditional_means(mixture, {n_rows, at<const double>(x), at<const bool>(observed)},
                                         at<double>(completed), n_threads, no_signal);
            });
        },
        py::arg("n_columns"), py::arg("n_components"), py::arg("log_weight"), py::arg("mean"), py::arg("covariance"),
        py::arg("n_rows"), py::arg("x"), py::arg("observed"), py::arg("completed"), py::arg("n_threads"));
    module.def(
        "expected_moments",
        [](int n_columns, int n_components, std::uintptr_t log_weight, std::uintptr_t mean, std::uintptr_t covariance,
           long n_rows, std::uintptr_t x, std::uintptr_t observed, std::uintptr_t weight, std::uintptr_t first,
           std::uintptr_t second, int n_threads) {
            const GaussianMixture mixture{n_columns, n_components, at<const double>(log_weight), at<const double>(mean),
                                          at<const double>(covariance)};
            run_interruptibly([&] {
                return expected_moments(mixture, {n_rows, at<const double>(x), at<const bool>(observed)},
                                        {at<double>(weight), at<double>(first), at<double>(second)}, n_threads,
                                        no_signal);
            });
        },
        py::arg("n_columns"), py::arg("n_components"), py::arg("log_weight"), py::arg("mean"), py::arg("covariance"),
        py::arg("n_rows"), py::arg("x"), py::arg("observed"), py::arg("weight"), py::arg("first"), py::arg("second"),
        py::arg("n_threads"));
}

}  // namespace vsae
