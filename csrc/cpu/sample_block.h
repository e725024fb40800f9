// The block of samples that one unit's kernels work on. Included only by units that define VSAE_ISA; VSAE_HALF_BLOCK is
// given by the build where it is not the long one.
#pragma once

#include "core/sample_order.h"

#ifndef VSAE_HALF_BLOCK
#define VSAE_HALF_BLOCK kLongHalf
#endif

namespace vsae {
namespace VSAE_ISA {

inline constexpr int kBlockLanes = VSAE_HALF_BLOCK;
inline constexpr int kBlock = 2 * kBlockLanes;  // samples
inline constexpr int kSegmentsPerBlock = kBlock / kSegment;
inline constexpr int kMostRowsAtOnce = 16;  // of weights that stand anywhere; see products_of_rows in dense.h

}  // namespace VSAE_ISA
}  // namespace vsae
