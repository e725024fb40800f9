// Curves between numbers and scores that are nearer to normal.
#pragma once

#include <pybind11/pybind11.h>

namespace vsae {

void bind_score_curves(pybind11::module_& module);

}  // namespace vsae
