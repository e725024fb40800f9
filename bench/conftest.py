"""Options of the benchmarks, and what their JSON says about machine and run."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from bench import environment, paired
from vsae_fast import _native


class Plan(NamedTuple):
    """How long to measure."""

    threads: int
    quick: bool
    rounds: int
    seconds: float


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    parser.addoption("--quick", action="store_true", help="few short rounds, no torch.compile: to see that it runs")
    parser.addoption("--threads", type=int, default=2)
    parser.addoption(
        "--data",
        type=Path,
        default=os.environ.get("VSAE_FAST_DATA"),
        help="folder of the UCI sets; what needs them is skipped without it",
    )


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Add threads, load and versions; leave out the host's name and addresses."""
    flags = machine_info.get("cpu", {}).get("flags", [])
    machine_info.clear()
    machine_info.update(environment.describe(config.getoption("--threads")))
    machine_info["cpu_flags"] = " ".join(flag for flag in flags if flag.startswith(("sse4", "avx", "fma", "f16c")))


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Keep the statistics, not the raw times; the commit stands in the machine's description."""
    output_json.pop("commit_info", None)
    for benchmark in output_json["benchmarks"]:
        benchmark["stats"].pop("data", None)


@pytest.fixture
def plan(request: pytest.FixtureRequest) -> Plan:
    """Threads and length of the measurement, from the options."""
    threads = request.config.getoption("--threads")
    torch.set_num_threads(threads)
    quick = request.config.getoption("--quick")
    return Plan(threads, quick, 3 if quick else 11, 0.05 if quick else 0.3)


@pytest.fixture
def data_folder(request: pytest.FixtureRequest) -> Path:
    """Folder of the UCI sets."""
    folder = request.config.getoption("--data")
    if folder is None:
        pytest.skip("needs the UCI sets: --data FOLDER")
    return Path(folder)


Compare = Callable[..., dict[str, list[float]]]


@pytest.fixture
def compare(benchmark: Any, plan: Plan) -> Compare:
    """Measure candidates turn by turn and keep pytest-benchmark's own statistics of the last one.

    ``compare(case, candidates, items)`` keeps rates and ratios to the last candidate, which is ours, and returns each
    round's seconds per item; ``items`` says how many rows or steps a call of each candidate does, ``before`` what is
    measured before a candidate's turn (not the first one's).
    """

    def run(
        case: str,
        candidates: Mapping[str, Callable[[], Any]],
        items: Mapping[str, int],
        before: Mapping[str, Callable[[], Any]] | None = None,
    ) -> dict[str, list[float]]:
        first, *_, ours = candidates
        trips: list[float] = []
        times = paired.alternate(
            candidates,
            rounds=plan.rounds,
            seconds=plan.seconds,
            before={**(before or {}), first: lambda: trips.append(1e9 * _native.round_trip())},
        )
        per_item = {name: [t / items[name] for t in values] for name, values in times.items()}
        result = {
            name: {
                "items_per_second": 1 / sorted(values)[len(values) // 2],
                **({} if name == ours else {"ratio": paired.ratio(per_item, name, ours)}),
            }
            for name, values in per_item.items()
        }
        benchmark.extra_info.update(
            case=case, ours=ours, candidates=result, round_trip_ns=sorted(filter(math.isfinite, trips))
        )
        benchmark.pedantic(candidates[ours], rounds=plan.rounds, iterations=1, warmup_rounds=1)
        return per_item

    return run
