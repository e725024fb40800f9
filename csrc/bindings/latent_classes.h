// Mixtures of products of categorical distributions.
#pragma once

#include <pybind11/pybind11.h>

namespace vsae {

void bind_latent_classes(pybind11::module_& module);

}  // namespace vsae
