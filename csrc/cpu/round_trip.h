// How far apart two processors of this machine are: a yardstick of the benchmarks. On virtual machines it changes while
// they run, as the host moves their processors to other cores.
#pragma once

namespace vsae {

// Seconds that a cache line takes from one processor to another and back; NaN with one processor, or where threads
// cannot be bound to theirs.
double round_trip();

}  // namespace vsae
