#include "bindings/score_curves.h"

#include <cstdint>

#include "bindings/addresses.h"
#include "bindings/signals.h"
#include "cpu/score_curves.h"

namespace py = pybind11;

namespace vsae {

void bind_score_curves(py::module_& module) {
    module.def(
        "along_curves",
        [](int n_curves, int n_knots, std::uintptr_t columns, std::uintptr_t start, std::uintptr_t end, long n_rows,
           int n_columns, std::uintptr_t x, int n_threads) {
            run_interruptibly([&] {
                const ScoreCurves curves{n_curves, n_knots, at<const std::int32_t>(columns), at<const double>(start),
                                         at<const double>(end)};
                return along_curves(curves, n_rows, n_columns, at<double>(x), n_threads, no_signal);
            });
        },
        py::arg("n_curves"), py::arg("n_knots"), py::arg("columns"), py::arg("start"), py::arg("end"),
        py::arg("n_rows"), py::arg("n_columns"), py::arg("x"), py::arg("n_threads"));
}

}  // namespace vsae
