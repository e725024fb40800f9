"""The time of one call."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def seconds_of(work: Callable[[], Any]) -> float:
    """How long a call takes, in seconds of the wall clock."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
