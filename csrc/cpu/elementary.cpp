#include "cpu/elementary.h"

#include <stdexcept>

namespace vsae {

namespace baseline {
ElementaryFunction elementary_function(const std::string& name);
}
#if defined(VSAE_X86)
namespace avx2 {
ElementaryFunction elementary_function(const std::string& name);
}
namespace avx512 {
ElementaryFunction elementary_function(const std::string& name);
}
#endif

ElementaryFunction elementary_function(CpuLevel level, const std::string& name) {
    if (level == CpuLevel::kBaseline) return baseline::elementary_function(name);
#if defined(VSAE_X86)
    return level == CpuLevel::kAvx2 ? avx2::elementary_function(name) : avx512::elementary_function(name);
#else
    throw std::invalid_argument(std::string("this build has no kernels for ") + name_of(level));
#endif
}

}  // namespace vsae
