"""Write docs/benchmarks.md from the result files; --check fails where it is out of date.

python -m bench.tables [--check]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Generated from `bench/results/` by `make tables`; `make bench` measures. Ratios come from one run in which the
candidates take turns, medians over the rounds. The share of the peak divides the arithmetic that is needed after
folding by the multiply-add rate measured in the same run.
"""


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Markdown table."""
    lines = [list(header), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def environment(result: dict[str, Any]) -> str:
    """One line on what a result was measured on."""
    e = result["environment"]
    return (
        f"{e['cpu']} ({e['cores']} cores, {e['cpu_level']}), {e['threads']} threads, load before {e['load_before']}, "
        f"torch {e['torch']}, Python {e['python']}, commit {e['commit']}, {e['date']}."
    )


def importance_impute(result: dict[str, Any]) -> str:
    """Throughput, ratios and share of the peak."""
    rows = []
    for name, rate in result["rows_per_second"].items():
        ratio = result["ratio_to_kernel"].get(name)
        shown = f"{ratio['median']:.1f} ({ratio['least']:.1f} to {ratio['largest']:.1f})" if ratio else ""
        rows.append((name, f"{rate:,.0f}", shown))
    return "\n\n".join(
        [
            "## importance_impute",
            f"M = {result['n_attributes']} numbers, {result['network']} network, K = {result['n_samples']}, "
            "half of the cells observed. Eager PyTorch runs the network as it is, in batches of the given rows.",
            table(("candidate", "rows per second", "kernel is faster by"), rows),
            f"Kernel: {result['gflops']:.0f} GFLOP/s, {result['share_of_peak']:.0%} of the measured peak of "
            f"{result['fma_peak_gflops']:.0f} GFLOP/s. {environment(result)}",
        ]
    )


def memory(result: dict[str, Any]) -> str:
    """Peak memory against N and K."""
    points = [
        (f"{p['n_rows']:,}", f"{p['n_samples']:,}", f"{p['peak_mb']:.0f}", f"{p['bytes_per_row']:.0f}")
        for p in result["points"]
    ]
    output = 8 * result["n_columns"]
    return "\n\n".join(
        [
            "## Memory of transform",
            f"How far `transform` of a float64 array with {result['n_columns']} columns raises the process's memory, "
            f"in megabytes; its result alone takes {output} bytes a row.",
            table(("N", "K", "peak, MB", "bytes per row"), points),
            environment(result),
        ]
    )


def training_step(result: dict[str, Any]) -> str:
    """Time of a step and ratios."""
    rows = []
    for name, case in result["cases"].items():
        for candidate, milliseconds in case["milliseconds"].items():
            ratio = case["ratio"].get(candidate)
            shown = f"{ratio['median']:.1f} ({ratio['least']:.1f} to {ratio['largest']:.1f})" if ratio else ""
            rows.append((name, candidate, f"{milliseconds:.3f}", shown))
    return "\n\n".join(
        [
            "## Training step",
            "M = 12 numbers, half of the cells observed. Eager PyTorch is a plain twin with a module per attribute "
            '(`bench/eager_training.py`); the autograd reference is what `backend="reference"` runs.',
            table(("step", "candidate", "milliseconds", "C++ trainer is faster by"), rows),
            environment(result),
        ]
    )


def accuracy(results: list[dict[str, Any]]) -> str:
    """Mean errors over the seeds."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault((result["set"], result["method"]), []).append(result)
    rows = []
    for (name, method), runs in groups.items():
        figures = [statistics.fmean(run[key] for run in runs) for key in ("nrmse", "pfc", "seconds")]
        shown = ["" if math.isnan(figure) else f"{figure:.3f}" for figure in figures[:2]]
        rows.append((name, method, *shown, f"{figures[2]:.1f}", str(len(runs))))
    commits = sorted({result["environment"]["commit"] for result in results})
    return "\n\n".join(
        [
            "## Errors on hidden cells",
            "Half of the cells hidden completely at random, defaults, mean over masks. NRMSE: root mean squared error "
            "over the standard deviation, mean of the numerical columns. PFC: share of wrong levels. "
            "[accuracy.md](accuracy.md) says which sets took part in development.",
            table(("set", "method", "NRMSE", "PFC", "seconds", "masks"), rows),
            f"{environment(results[-1])} Commits of the runs: {', '.join(commits)}.",
        ]
    )


SECTIONS = {"importance_impute": importance_impute, "training_step": training_step, "memory": memory}


def page() -> str:
    """Text of the page."""
    parts = [HEAD.rstrip()]
    for name, section in SECTIONS.items():
        path = RESULTS / f"{name}.json"
        if path.is_file():
            parts.append(section(json.loads(path.read_text())))
    lines = (RESULTS / "accuracy.jsonl").read_text().splitlines() if (RESULTS / "accuracy.jsonl").is_file() else []
    if lines:
        parts.append(accuracy([json.loads(line) for line in lines]))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        PAGE.write_text(page())
    elif not PAGE.is_file() or PAGE.read_text() != page():
        sys.exit(f"{PAGE.name} does not follow from the result files; run make tables")


if __name__ == "__main__":
    main()
