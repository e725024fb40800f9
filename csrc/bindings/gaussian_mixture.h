// The joint normal distribution of all columns.
#pragma once

#include <pybind11/pybind11.h>

namespace vsae {

void bind_gaussian_mixture(pybind11::module_& module);

}  // namespace vsae
