"""The yardstick of how far apart two processors are."""

import math
import os

from vsae_fast import _native


def test_round_trip_is_that_of_a_cache_line():
    seconds = _native.round_trip()
    if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2:
        assert math.isnan(seconds)
    else:
        assert 5e-9 < seconds < 1e-4  # a core's own cache is nearer, a thread that sleeps further
