#include "bindings/joint_gaussian.h"

#include <cstdint>

#include "bindings/addresses.h"
#include "bindings/signals.h"
#include "cpu/joint_gaussian.h"

namespace py = pybind11;

namespace vsae {

void bind_joint_gaussian(py::module_& module) {
    module.def(
        "conditional_means",
        [](int n_columns, std::uintptr_t mean, std::uintptr_t covariance, long n_rows, std::uintptr_t x,
           std::uintptr_t observed, std::uintptr_t completed, int n_threads) {
            run_interruptibly([&] {
                return conditional_means({n_columns, at<const double>(mean), at<const double>(covariance)},
                                         {n_rows, at<const double>(x), at<const bool>(observed)}, at<double>(completed),
                                         n_threads, no_signal);
            });
        },
        py::arg("n_columns"), py::arg("mean"), py::arg("covariance"), py::arg("n_rows"), py::arg("x"),
        py::arg("observed"), py::arg("completed"), py::arg("n_threads"));
    module.def(
        "expected_moments",
        [](int n_columns, std::uintptr_t mean, std::uintptr_t covariance, long n_rows, std::uintptr_t x,
           std::uintptr_t observed, std::uintptr_t first, std::uintptr_t second, int n_threads) {
            run_interruptibly([&] {
                return expected_moments({n_columns, at<const double>(mean), at<const double>(covariance)},
                                        {n_rows, at<const double>(x), at<const bool>(observed)}, at<double>(first),
                                        at<double>(second), n_threads, no_signal);
            });
        },
        py::arg("n_columns"), py::arg("mean"), py::arg("covariance"), py::arg("n_rows"), py::arg("x"),
        py::arg("observed"), py::arg("first"), py::arg("second"), py::arg("n_threads"));
}

}  // namespace vsae
