#pragma once

#include <pybind11/pybind11.h>

namespace vsae {

void bind_proposals(pybind11::module_& module);

}  // namespace vsae
