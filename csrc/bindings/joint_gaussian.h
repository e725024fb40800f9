// The joint normal distribution of all columns.
#pragma once

#include <pybind11/pybind11.h>

namespace vsae {

void bind_joint_gaussian(pybind11::module_& module);

}  // namespace vsae
