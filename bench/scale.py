"""What ten billion rows would take: arithmetic on measured rates, for docs/scale.md.

Nothing here is measured; every input is, but for prices and the GPU's rates, which the page marks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.markdown import machine, table

ROWS, COLUMNS, CELL_BYTES = 10_000_000_000, 12, 8
CORES = 64  # of one machine
# Dollars an hour, round figures of public clouds; put your own in.
CORE_HOUR, H100_HOUR = 0.04, 3.0
H100_FLOPS, GTX_1080_FLOPS = 67e12, 8.87e12  # published float32 rates


def _load(results: Path, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((results / f"{name}.json").read_text())
    return loaded


def section(results: Path) -> str:
    """Tables of docs/scale.md from the result files."""
    runs = _load(results, "soak")["runs"]
    rates = [run["rows"] / run["seconds"] / run["environment"]["cores"] for run in runs]
    rows = []
    for run, rate in zip(runs, rates, strict=True):
        core_hours = ROWS / rate / 3600
        rows.append(
            (f"K = {run['n_samples']:,}", f"{rate:,.0f}", f"{core_hours:,.0f}", f"{core_hours / CORES:,.1f}",
             f"{core_hours * CORE_HOUR / (ROWS * COLUMNS / 1e9):.2f}")
        )  # fmt: skip
    measured = " and ".join(f"{run['rows']:,} rows at K = {run['n_samples']:,}" for run in runs)
    text = [
        f"{ROWS / 1e9:.0f} billion rows of {COLUMNS} numbers, the paper's network, on CPUs like the measured one:",
        table(
            ("", "rows/s a core", "core hours", f"hours on one machine of {CORES} cores", "dollars per billion cells"),
            rows,
        ),
        f"Rates of the whole of `impute_parquet`, measured on {measured} ([Soak](performance.md)). A core hour counts "
        f"{CORE_HOUR:.2f} dollars.",
        gpu_section(results),
        storage_section(rates[0], rates[-1]),
        machine(runs[-1]["environment"]),
    ]
    return "\n\n".join(text)


def gpu_section(results: Path) -> str:
    """The same on one H100, projected."""
    projection = _load(results, "projection")
    case = next(c for c in projection["cases"] if c["gpu"] == "GTX 1080" and c["case"] == "paper network, 12 numbers")
    rate = case["rows_per_second"] * H100_FLOPS / GTX_1080_FLOPS
    hours = ROWS / rate / 3600
    return (
        "**On an H100, not measured.** The instruction mix of the CUDA kernel times the published float32 rate allows "
        f"{rate / 1e6:.1f} million rows/s at most at K = {projection['n_samples']:,}: {hours:.1f} GPU hours, "
        f"{hours * H100_HOUR / (ROWS * COLUMNS / 1e9):.2f} dollars per billion cells at {H100_HOUR:.0f} dollars an "
        "hour. No such run has been made."
    )


def storage_section(few: float, many: float) -> str:
    """Bytes a second that the rates ask of the storage."""
    row = COLUMNS * CELL_BYTES
    rates = [f"{rate * CORES * row / 1e9:.2f}" for rate in (few, many)]
    return (
        f"A row is {row} bytes before compression, so that {ROWS * row / 1e12:.2f} TB are read and as much is written. "
        f"{CORES} cores ask for {rates[0]} GB/s in each direction at the first rate and {rates[1]} GB/s at the second."
    )
