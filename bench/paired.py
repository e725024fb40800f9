"""Timing of several candidates turn by turn, so that load on a shared machine meets all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def alternate(
    candidates: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    seconds: float,
    before: Mapping[str, Callable[[], Any]] | None = None,
) -> dict[str, list[float]]:
    """Seconds per call of each candidate, one figure a round; a figure averages calls over about ``seconds``.

    ``before[name]`` is called each time before that candidate's turn.
    """
    calls = {}
    for name, run in candidates.items():
        run()  # warm up: allocation, compilation
        begin = time.perf_counter()
        run()
        calls[name] = max(1, round(seconds / (time.perf_counter() - begin)))
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            if before and name in before:
                before[name]()
            begin = time.perf_counter()
            for _ in range(calls[name]):
                run()
            times[name].append((time.perf_counter() - begin) / calls[name])
    return times


def ratio(times: Mapping[str, list[float]], slow: str, fast: str) -> dict[str, float]:
    """Median, least and largest ratio over the rounds, each from neighbours in time."""
    ratios = [a / b for a, b in zip(times[slow], times[fast], strict=True)]
    return {"median": statistics.median(ratios), "least": min(ratios), "largest": max(ratios)}
