"""From result lines to tables: the printed value, ours, and the difference."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from bench.markdown import machine, table
from bench.paper.cells import FLOOR, methods_of
from bench.paper.deep import LONG_PHASE_1
from bench.paper.printed import TABLES, Column

LINES = "paper.jsonl"
NORMALIZATIONS = ("std", "range", "rms")

Line = dict[str, Any]


class Ours(NamedTuple):
    """What was measured for one method and column.

    Attributes
    ----------
    mean, spread : float
        Over the seeds; the spread is nan for a single one.
    seeds : int
    scale : str
        ``"full"``, ``"N epochs"`` or ``"quick"``; behind the first two ``", patience P"`` where training ended after so
        many epochs without a better score, ``", by the bound"`` where the validation bound chose the epoch of a network
        for blocks.
    """

    mean: float
    spread: float
    seeds: int
    scale: str


def read(path: Path) -> list[Line]:
    """Result lines; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def metric_name(column: Column, normalization: str) -> str:
    """Name of a column's metric among a run's scores."""
    return f"NRMSE {normalization}" if column.metric == "NRMSE" else column.metric


Scores = dict[str, dict[int, float]]  # of each seed at each scale, the largest scale first


def scores(lines: list[Line], column: Column, method: str, normalization: str, scale: str | None) -> Scores:
    """What was measured for one method and column, at the given scale or at all but ``"quick"``."""
    key = (column.data, column.mechanism, column.missing, method)
    name = metric_name(column, normalization)
    found: Scores = {}
    for line in lines:
        if (line["data"], line["mechanism"], line["missing"], line["method"]) != key or name not in line["scores"]:
            continue
        if line["scale"] == scale if scale is not None else line["scale"] != "quick":
            found.setdefault(line["scale"], {})[line["seed"]] = line["scores"][name]
    return {own: found[own] for own in sorted(found, key=_length, reverse=True)}


def ours(lines: list[Line], column: Column, method: str, normalization: str, scale: str | None) -> list[Ours]:
    """Mean and spread over the seeds at each scale, the largest first."""
    found = []
    for own, of_seeds in scores(lines, column, method, normalization, scale).items():
        values = list(of_seeds.values())
        spread = statistics.stdev(values) if len(values) > 1 else math.nan
        found.append(Ours(statistics.fmean(values), spread, len(values), own))
    return found


def _length(scale: str) -> tuple[float, int]:
    epochs, _, how = scale.partition(", ")
    length = math.inf if epochs == "full" else float(epochs.partition(" ")[0]) if epochs != "quick" else 0.0
    return length, 2 if not how else 1 if how.startswith("patience") else 0


def nearest_normalization(lines: list[Line]) -> tuple[str, dict[str, float]]:
    """The normalisation of NRMSE whose figures for the VSAE are nearest to the printed ones, and how far each one is.

    The distance is the mean absolute logarithm of ours over printed.
    """
    distances: dict[str, float] = {}
    for normalization in NORMALIZATIONS:
        logs = []
        for name in ("table5", "table6"):
            for column, printed in zip(TABLES[name].columns, TABLES[name].rows["VSAE"], strict=True):
                found = ours(lines, column, "VSAE", normalization, None) if column.metric == "NRMSE" else []
                logs += [abs(math.log(own.mean / printed.mean)) for own in found[:1]]
        if logs:
            distances[normalization] = statistics.fmean(logs)
    return min(distances, key=distances.__getitem__, default="rms"), distances


def rows(name: str, lines: list[Line], scale: str | None = None) -> list[dict[str, Any]]:
    """Every figure of a table as plain values: printed, ours, difference."""
    normalization, _ = nearest_normalization(lines)
    result = []
    for method in methods_of(name):
        printed = TABLES[name].rows.get(method)
        for i, column in enumerate(TABLES[name].columns):
            largest, *shorter = ours(lines, column, method, normalization, scale) or [None]
            result.append(
                {
                    "method": method,
                    "column": column.title,
                    "metric": metric_name(column, normalization),
                    "printed": printed[i]._asdict() if printed is not None else None,
                    "ours": largest._asdict() if largest is not None else None,
                    "shorter": [own._asdict() for own in shorter if own is not None],
                    "difference": largest.mean - printed[i].mean if largest and printed else None,
                }
            )
    return result


def markdown(name: str, lines: list[Line], scale: str | None = None) -> str:
    """One table as Markdown."""
    cells: dict[str, list[str]] = {}
    scales = set()
    for row in rows(name, lines, scale):
        printed, found = row["printed"], row["ours"]
        text = [
            "" if printed is None else f"{printed['mean']:.4f} ± {printed['spread']:.4f}",
            "not run" if found is None else "; ".join(map(_figure, [found, *row["shorter"]])),
            "" if row["difference"] is None else f"{row['difference']:+.4f}",
        ]
        if found is not None and row["method"] != FLOOR:
            scales.add(found["scale"])
        cells.setdefault(row["method"], []).extend(text)
    header = ["method"]
    for column in TABLES[name].columns:
        header += [f"{column.title}: printed", "ours", "difference"]
    parts = [f"### {name.replace('table', 'Table ')}: {TABLES[name].title}"]
    parts.append(table(header, ([method, *own] for method, own in cells.items())))
    notes = _notes(name, lines, scale)
    return "\n\n".join([*parts, *notes])


def _figure(found: dict[str, Any]) -> str:
    spread = "" if math.isnan(found["spread"]) else f" ± {found['spread']:.4f}"
    few = "" if found["seeds"] == 3 else f" ({found['seeds']} seed{'s' if found['seeds'] > 1 else ''})"
    marked = "" if found["scale"] == "full" else f" [{found['scale']}]"
    return f"{found['mean']:.4f}{spread}{few}{marked}"


def _notes(name: str, lines: list[Line], scale: str | None) -> list[str]:
    sets_ = {column.data for column in TABLES[name].columns}
    own = [line for line in lines if line["data"] in sets_ and (line["scale"] == scale if scale else True)]
    notes = sorted({f"Data: {line['note']}." for line in own if line["note"]})
    if own:
        notes.append(machine(own[-1]["environment"]))
    return notes


ORDERINGS = [
    ("VSAE", "VAE", ("table5", "table6", "table7")),
    ("VSAE", "CVAE", ("table5", "table6", "table7")),
    ("VSAE", FLOOR, ("table5", "table6", "table7", "table8", "table10", "table11")),
    (LONG_PHASE_1, FLOOR, ("table5", "table6")),
    ("HI-VAE", FLOOR, ("table5", "table6", "table7", "table8", "table10", "table11")),
]


def paired(
    lines: list[Line], column: Column, methods: tuple[str, str], normalization: str
) -> tuple[float, float, int, str] | None:
    """Means of two methods over the seeds that both have, at the largest scale at which they have some.

    Returns
    -------
    tuple of (mean, mean, seeds, scale), or None
    """
    a, b = (scores(lines, column, method, normalization, None) for method in methods)
    for scale, of_seeds in a.items():
        others = b.get("full" if methods[1] == FLOOR else scale, {})
        seeds = sorted(set(of_seeds) & set(others))
        if seeds:
            first, second = (statistics.fmean(own[seed] for seed in seeds) for own in (of_seeds, others))
            return first, second, len(seeds), scale
    return None


def orderings(lines: list[Line]) -> str:
    """Who is ahead of whom, column by column, as a table."""
    normalization, _ = nearest_normalization(lines)
    found_rows = []
    for better, worse, names in ORDERINGS:
        for name in names:
            for column in TABLES[name].columns:
                found = paired(lines, column, (better, worse), normalization)
                if found is None:
                    continue
                first, second, seeds, scale = found
                verdict = "holds" if first <= second else "**the other way**"
                found_rows.append(
                    (f"{better} at least as good as {worse}", f"{name.replace('table', 'Table ')}, {column.title}",
                     f"{first:.4f}", f"{second:.4f}", verdict, str(seeds), "" if scale == "full" else scale)
                )  # fmt: skip
    return table(("expected", "where", "first", "second", "", "seeds", "scale"), found_rows)


def write(name: str, results: Path, folder: Path, scale: str | None) -> str:
    """Write one table as Markdown and JSON, and return the Markdown."""
    lines = read(results / LINES)
    folder.mkdir(parents=True, exist_ok=True)
    text = markdown(name, lines, scale)
    (folder / f"{name}.md").write_text(text + "\n")
    (folder / f"{name}.json").write_text(json.dumps(rows(name, lines, scale), indent=1) + "\n")
    return text


def sections(path: Path, names: Iterable[str] = tuple(TABLES)) -> str:
    """All tables, then the orderings, for docs/paper.md."""
    lines = read(path)
    if not lines:
        return "Nothing has been run yet."
    parts = [normalizations(lines), *(markdown(name, lines) for name in names)]
    return "\n\n".join(["## Results", *parts, "### Orderings", orderings(lines)])


def normalizations(lines: list[Line]) -> str:
    """Which normalisation of NRMSE the tables use, and why."""
    nearest, distances = nearest_normalization(lines)
    if not distances:
        return ""
    names = {
        "std": "root mean squared error over the standard deviation, mean of the columns",
        "range": "the same over the range",
        "rms": "root of the summed squared error over the summed squared truth, columns scaled to [0, 1]",
    }
    rows_ = [(names[n], f"{100 * (math.exp(d) - 1):.0f} %") for n, d in sorted(distances.items(), key=lambda i: i[1])]
    return "\n\n".join(
        [
            "The paper does not say how it normalises NRMSE. The VSAE's printed figures are nearest to the first of "
            f"these (`metrics.nrmse`, `normalize={nearest!r}`), which the tables use:",
            table(("normalisation", "ours and printed differ by"), rows_),
            "Means and spreads over three seeds; where fewer have run, their number stands behind the figure. "
            "`[40 epochs]` marks runs that are shorter than appendix D's, `patience 100` those that ended after so "
            "many epochs without a better validation score, `by the bound` runs on blocks from when the validation "
            "bound chose the epoch.",
        ]
    )
