// Random numbers and elementary functions, one by one: what the kernels use, for tests.
#pragma once

#include <pybind11/pybind11.h>

namespace vsae {

void bind_numbers(pybind11::module_& module);

}  // namespace vsae
