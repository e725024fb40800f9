"""Text of docs/quality.md from the lines of the arena."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.accuracy.bars import ARENA_HOURS, BARS, COVERAGE, TRANSFORM_RATIO
from bench.accuracy.methods import DEFAULT
from bench.accuracy.picture import OURS, draw
from bench.accuracy.ranks import SCORINGS, UNRANKED, Line, compare
from bench.accuracy.runs import MECHANISMS, SEEDS, SHARES
from bench.accuracy.sets import SETS
from bench.markdown import machine, table, verdict

NAMES = {"nrmse_std": "NRMSE", "pfc": "PFC"}
TREES = "chained random forests"
PICTURE = "mean_ranks.svg"
MACHINES = {  # by the folder of their own lines
    "with_avx512": "With AVX-512",
    "intel": "With AVX-512, an Intel processor",
    "without_avx512": "Without AVX-512",
}


def read(path: Path) -> list[Line]:
    """Lines of a result file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def machine_of(line: Line) -> str:
    """Folder of the kind of machine that a line was measured on, a key of :data:`MACHINES`."""
    if line["environment"]["cpu_level"] != "avx512":
        return "without_avx512"
    return "intel" if "Intel" in line["environment"]["cpu"] else "with_avx512"


def timed_on(kind: str, path: Path) -> list[Line]:
    """Lines of one kind of machine: the file's own, and those in the kind's folder that another has run anew.

    For times alone: times of different machines do not compare, errors do.
    """
    beside = path.parent / kind / path.name
    lines = read(path) + (read(beside) if beside.is_file() else [])
    return [line for line in lines if machine_of(line) == kind]


def _mean(lines: Iterable[Line], scoring: str, error: str) -> float | None:
    found = [line["scores"].get(scoring, {}).get(error) for line in lines]
    known = [value for value in found if value is not None]  # nothing of that kind was hidden, or the method failed
    return statistics.fmean(known) if known else None


def _figure(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _groups(lines: list[Line], protocol: str, *fields: str) -> dict[tuple[Any, ...], list[Line]]:
    groups: dict[tuple[Any, ...], list[Line]] = defaultdict(list)
    for line in lines:
        if line["protocol"] == protocol:
            groups[tuple(line[field] for field in fields)].append(line)
    return groups


def bars(lines: list[Line]) -> str:
    """Whole tables against their bars, with the time beside that of chained trees."""
    groups = _groups(lines, "whole", "set", "method")
    rows = []
    for (name, error), (bar, aim) in BARS.items():
        own = _mean(groups.get((name, OURS), []), "in-sample", error)
        if own is None:
            continue
        others = [_mean(groups.get((name, method), []), "in-sample", error) for method in (TREES, "mean / mode")]
        n_masks = len(groups[name, OURS])
        rows.append(
            (name, NAMES[error], f"{own:.3f}", f"{bar:.3f}", f"{aim:.3f}", verdict(own, bar, aim),
             *map(_figure, others), str(n_masks))
        )  # fmt: skip
    return table(("set", "error", "auto", "bar", "aim", "", TREES, "mean / mode", "masks"), rows)


def summary(lines: list[Line]) -> str:
    """Errors on whole tables beside chained random forests and the mean or mode, for the README."""
    groups = _groups(lines, "whole", "set", "method")
    rows = []
    for name, error in BARS:
        own = _mean(groups.get((name, OURS), []), "in-sample", error)
        if own is not None:
            others = [_mean(groups.get((name, method), []), "in-sample", error) for method in (TREES, "mean / mode")]
            rows.append((name, NAMES[error], f"{own:.3f}", *map(_figure, others)))
    return table(("table", "error", "vsae_fast", TREES, "mean / mode"), rows)


def failures(lines: list[Line]) -> str:
    """Methods that failed somewhere, and so have no rank."""
    failed = [line for line in lines if line.get("error")]
    first = {line["method"]: line for line in reversed(failed)}
    told = [
        f"{method} failed on {sum(line['method'] == method for line in failed)} masks "
        f"(first on {line['set']}: {line['error']})"
        for method, line in first.items()
    ]
    return f"Without a rank, because they did not complete every table: {'; '.join(told)}." if told else ""


def times(lines: list[Line]) -> str:
    """Seconds of whole tables, ours and chained trees', on masks that both were run on beside nothing else."""
    seeds = {line["seed"] for line in lines if line["method"] == TREES and line["protocol"] == "whole"}
    quiet = [line for line in lines if line["environment"]["load_before"] <= line["environment"]["cores"]]
    groups = _groups([line for line in quiet if line["seed"] in seeds], "whole", "set", "method")
    rows = []
    for name, method in groups:
        if method != OURS or (name, TREES) not in groups:
            continue
        ours, trees = (
            {
                part: statistics.median(line["seconds"][part] for line in groups[name, who])
                for part in ("fit_transform", "transform of 10,000 rows")
            }
            for who in (OURS, TREES)
        )
        new = "transform of 10,000 rows"
        ratio = trees[new] / ours[new]
        rows.append(
            (name, f"{ours['fit_transform']:.1f}", f"{trees['fit_transform']:.1f}",
             f"{trees['fit_transform'] / ours['fit_transform']:.1f}", f"{ours[new]:.2f}", f"{trees[new]:.2f}",
             f"{ratio:.1f}", verdict(ratio, *TRANSFORM_RATIO))
        )  # fmt: skip
    header = (
        "set",
        "impute, s",
        "chained trees, s",
        "times as fast",
        "transform of 10,000 rows, s",
        "chained trees, s",
    )
    return table((*header, "times as fast", f"bar {TRANSFORM_RATIO[0]:g}"), rows)


def times_by_machine(path: Path) -> list[str]:
    """Times of each kind of machine, of a file's lines and of those beside it; different ones do not compare."""
    parts = []
    for kind, name in MACHINES.items():
        own = timed_on(kind, path)
        timed = [line for line in own if line["protocol"] == "whole" and line["method"] in (OURS, TREES)]
        if any(line["method"] == TREES for line in timed):
            commits = sorted({line["environment"]["commit"] for line in timed})
            parts += [f"{name} (commits {', '.join(commits)}):", times(timed)]
    return parts


def ranks(lines: list[Line]) -> str:
    """Mean ranks by mechanism and rate, in-sample and on held-out rows."""
    conditions = sorted({(line["mechanism"], line["hidden"]) for line in lines if line["protocol"] == "split"})
    parts = []
    for scoring in SCORINGS:
        whole = compare(lines, scoring)
        if whole is None:
            continue
        columns = [
            compare(lines, scoring, lambda line, key=key: (line["mechanism"], line["hidden"]) == key)  # type: ignore[misc]
            for key in conditions
        ]
        rows = [
            (method, f"{rank:.2f}", *(_figure(c.ranks.get(method) if c else None, 2) for c in columns))
            for method, rank in whole.ranks.items()
        ]
        header = ("method", "all", *(f"{mechanism} {hidden:.0%}" for mechanism, hidden in conditions))
        parts.append(
            f"Mean ranks, {scoring}; {whole.n_sets} tables, {whole.n_conditions} masks, critical difference "
            f"{whole.critical_difference():.2f}:\n\n" + table(header, rows)
        )
    return "\n\n".join(parts)


def intervals(lines: list[Line]) -> str:
    """Coverage of our 90 % intervals by mechanism and rate: mean over tables and masks, and the least table."""
    own = [line for line in lines if line["method"] == OURS]
    rows = []
    for (mechanism, hidden), group in sorted(_groups(own, "split", "mechanism", "hidden").items()):
        by_set = {
            name: [line["scores"]["in-sample"].get("coverage") for line in runs]
            for (name,), runs in _groups(group, "split", "set").items()
        }
        shares = {name: statistics.fmean(values) for name, values in by_set.items() if None not in values}
        if not shares:
            continue
        mean, low, high = statistics.fmean(shares.values()), min(shares, key=shares.get), max(shares, key=shares.get)
        met = COVERAGE[0] <= mean <= COVERAGE[1]
        rows.append(
            (f"{mechanism} {hidden:.0%}", f"{mean:.3f}", f"{COVERAGE[0]:g} to {COVERAGE[1]:g}",
             ("met" if met else "**missed**") if mechanism != "MNAR" else "", f"{shares[low]:.3f} ({low})",
             f"{shares[high]:.3f} ({high})")
        )  # fmt: skip
    return table(("mechanism", "coverage", "bar", "", "least", "largest"), rows)


def scores(lines: list[Line]) -> str:
    """Errors of every method on every table, mean over the masks that all ranked methods have been run on.

    Those without a rank stand where they have been run on all of these masks.
    """
    conditions = _groups(lines, "split", "set", "mechanism", "hidden", "seed")
    methods = list(dict.fromkeys(line["method"] for line in lines if line["protocol"] == "split"))
    ranked = set(methods) - set(UNRANKED)
    common = [line for group in conditions.values() if ranked <= {line["method"] for line in group} for line in group]
    groups = _groups(common, "split", "set", "method")
    for name, method in list(groups):
        if method in UNRANKED and len(groups[name, method]) < len(groups[name, OURS]):
            groups[name, method] = []
    rows = []
    for name in dict.fromkeys(name for name, _ in groups):
        for error, label in {**NAMES, "energy": "energy"}.items():
            values = [_mean(groups[name, method], "in-sample", error) for method in methods]
            if any(value is not None for value in values):
                rows.append((name, label, *map(_figure, values)))
    return table(("set", "error", *methods), rows)


def length(lines: list[Line]) -> str:
    """Time of a full run on two cores: of every table and method the run that began beside the least other work."""
    groups = _groups([line for line in lines if "run" in line["seconds"]], "split", "set", "method")
    if not all((name, method) in groups for name in SETS for method in DEFAULT):
        return ""
    quietest = [
        min(groups[name, method], key=lambda line: line["environment"]["load_before"])
        for name in SETS
        for method in DEFAULT
    ]
    n_masks = len(SEEDS) * len(MECHANISMS) * len(SHARES)
    full = n_masks * sum(line["seconds"]["run"] for line in quietest) / 3600 / 2
    return (
        f"A full run, {n_masks} masks of every table, takes {full:.1f} hours on two cores with AVX-512 (`--jobs 2`), "
        "by the run of each table and method that began beside the least other work "
        f"(bar {ARENA_HOURS:g}, {verdict(full, ARENA_HOURS, 0)})."
    )


def write_picture(path: Path, docs: Path) -> None:
    """Mean ranks, beside the page; nothing where there is nothing to compare."""
    overall = compare(read(path))
    if overall is not None:
        draw(overall, docs / PICTURE)


def quality(path: Path) -> str:
    """Text of the page."""
    lines = read(path)
    parts = [
        "# Errors on hidden cells",
        "Generated from `bench/results/` by `make tables`; `python -m bench.accuracy` measures. NRMSE: root mean "
        "squared error over the standard deviation, mean of the numerical columns. PFC: share of wrong levels. Cells "
        "that are missing by nature are never scored. [accuracy.md](accuracy.md) says which sets took part in "
        "development, and what was tried.",
        "## Whole tables",
        "Half of the cells hidden completely at random, in-sample, defaults, mean over masks.",
        bars(lines),
        "Medians of the time over runs, both on all cores of one machine; runs that began while other work filled it "
        "are left out. A run's `transform` is the median of three calls since 5b2f744, before that a single one.",
        *times_by_machine(path),
    ]
    if compare(lines) is not None:
        parts += [
            "## The arena",
            "At most 1,500 rows of every table, 30 or 50 % of the cells hidden by each mechanism, fitted on 70 % of "
            "the rows; errors of those rows (in-sample) and of the others (held-out).",
            f"![Mean ranks of the methods]({PICTURE})",
            ranks(lines),
            *filter(None, [failures(lines), length(timed_on("with_avx512", path))]),
            "Errors in-sample, mean over the masks that all methods have been run on "
            f"({', '.join(UNRANKED)}, which takes minutes for a small table and has no rank, on some); energy: "
            "distance between the rows as completed (drawn, where a method draws) and the true ones, 0 is best:",
            scores(lines),
            "Share of the hidden numerical cells inside the central 90 % interval of 50 draws "
            "(`VSAEImputer.sample`), mean over the tables:",
            intervals(lines),
        ]
    commits = sorted({line["environment"]["commit"] for line in lines})
    drawn = sorted({line["draws"]["commit"] for line in lines if "draws" in line})
    told = f" Draws were scored on {', '.join(drawn)}." if drawn else ""
    parts.append(f"{machine(lines[-1]['environment'])} Commits of the runs: {', '.join(commits)}.{told}")
    return "\n\n".join(parts) + "\n"
