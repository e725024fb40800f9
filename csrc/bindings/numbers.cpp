#include "bindings/numbers.h"

#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "core/philox.h"
#include "core/sample_order.h"
#include "cpu/cpu_level.h"
#include "cpu/elementary.h"
#include "cpu/normal_quantile.h"

namespace py = pybind11;

namespace vsae {

void bind_numbers(py::module_& module) {
    module.def(
        "philox",
        [](std::uint64_t key, std::uint64_t low, std::uint32_t third, std::uint32_t fourth) {
            const PhiloxWords words = philox(key, low, third, fourth);
            return std::array<std::uint32_t, 4>{words.word[0], words.word[1], words.word[2], words.word[3]};
        },
        py::arg("key"), py::arg("low"), py::arg("third"), py::arg("fourth"));
    module.def(
        "is_mirrored",
        [](std::uintptr_t noise, int n_samples, int n_latent) {
            return is_mirrored(reinterpret_cast<const float*>(noise), n_samples, n_latent);
        },
        py::arg("noise"), py::arg("n_samples"), py::arg("n_latent"),
        "Whether importance_impute takes a float32 table of noise for a mirrored one.");
    module.def(
        "normal_quantile",
        [](std::uintptr_t p, std::uintptr_t out, long n) {
            for (long i = 0; i < n; ++i)
                reinterpret_cast<double*>(out)[i] = normal_quantile(reinterpret_cast<const double*>(p)[i]);
        },
        py::arg("p"), py::arg("out"), py::arg("n"), "Elementwise, on float64.");
    module.def(
        "elementary",
        [](const std::string& name, std::uintptr_t x, std::uintptr_t out, long n) {
            const ElementaryFunction function = elementary_function(active_level(), name);
            if (!function) throw std::invalid_argument("unknown function '" + name + "'");
            function(reinterpret_cast<const float*>(x), reinterpret_cast<float*>(out), n);
        },
        py::arg("name"), py::arg("x"), py::arg("out"), py::arg("n"),
        "Elementwise on float32, n a multiple of 16: exp, exp_negative, log, sigmoid or softplus.");
}

}  // namespace vsae
