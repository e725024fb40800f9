// Compiled once per instruction set, with VSAE_ISA and VSAE_LANES set by the build.
#include "cpu/elementary.h"
#include "cpu/simd.h"

namespace vsae {
namespace VSAE_ISA {

template <Vec (*kFunction)(Vec)>
static void apply(const float* x, float* out, long n) {
    for (long i = 0; i < n; i += kLanes) store_unaligned(out + i, kFunction(load_unaligned(x + i)));
}

ElementaryFunction elementary_function(const std::string& name);
ElementaryFunction elementary_function(const std::string& name) {
    if (name == "exp") return apply<exp>;
    if (name == "exp_negative") return apply<exp_negative>;
    if (name == "log") return apply<log>;
    if (name == "sigmoid") return apply<sigmoid>;
    if (name == "softplus") return apply<softplus>;
    return nullptr;
}

}  // namespace VSAE_ISA
}  // namespace vsae
