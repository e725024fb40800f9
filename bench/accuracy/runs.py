"""One run of the arena: hide cells, complete the table, score; and the list of all runs."""

from __future__ import annotations

import itertools
import statistics
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from bench import environment, resident
from bench.accuracy.encoding import is_number
from bench.accuracy.methods import METHODS
from bench.accuracy.scores import coverage, energy_distance, errors
from bench.accuracy.sets import load, sample_rows
from bench.stopwatch import seconds_of
from vsae_fast.missingness import ampute
from vsae_fast.multiple import MultipleImputation

MECHANISMS, SHARES, SEEDS = ("MCAR", "MAR", "MNAR"), (0.5, 0.3), (0, 1, 2)
MOST_ROWS = 1500  # of a split run: chained forests on whole tables would take the budget alone
TRAIN_SHARE = 0.7
N_DRAWS, LEVEL = 50, 0.9  # of the intervals
NEW_ROWS = 10_000  # of the timed transform in whole-table runs
TIMED_CALLS = 3  # of which the median counts


class Run(NamedTuple):
    """What names a run.

    Attributes
    ----------
    protocol : {"split", "whole"}
        ``"split"``: at most 1500 rows, fitted on 70 % of them and scored there and on the rest. ``"whole"``: the whole
        table, scored in-sample; the bars of the product are held against these.
    set : str
    mechanism : {"MCAR", "MAR", "MNAR"}
    hidden : float
        Share of hidden cells.
    seed : int
        Of the rows and of the mask.
    method : str
    """

    protocol: str
    set: str
    mechanism: str
    hidden: float
    seed: int
    method: str


def split_runs(sets: tuple[str, ...], methods: tuple[str, ...], seeds: tuple[int, ...] = SEEDS) -> Iterator[Run]:
    """Runs of the arena, one mask and mechanism of everything before the next."""
    for seed, hidden, mechanism, name, method in itertools.product(seeds, SHARES, MECHANISMS, sets, methods):
        yield Run("split", name, mechanism, hidden, seed, method)


def whole_runs(sets: tuple[str, ...], methods: tuple[str, ...], seeds: tuple[int, ...] = SEEDS) -> Iterator[Run]:
    """Runs that the bars are held against; chained forests, there for their time, take the first mask alone."""
    for seed, name, method in itertools.product(seeds, sets, methods):
        if seed == seeds[0] or not method.startswith("chained"):
            yield Run("whole", name, "MCAR", 0.5, seed, method)


def hide(run: Run, folder: Path | None) -> tuple[pd.DataFrame, pd.DataFrame, Any, int]:
    """True table, the same with hidden cells, the mask, and how many rows from the first on are fitted."""
    table = load(run.set, folder)
    n_train = len(table)
    if run.protocol == "split":
        table = sample_rows(table, MOST_ROWS, run.seed)
        n_train = round(TRAIN_SHARE * len(table))
    return table, *ampute(table, run.mechanism, run.hidden, random_state=run.seed), n_train


def scores_of_draws(truth: pd.DataFrame, draws: Any, mask: Any) -> dict[str, float | None]:
    """Energy distance of a draw, and of :class:`MultipleImputation` with numbers the coverage of its intervals."""
    scores: dict[str, float | None] = {"energy": energy_distance(truth, draws[0])}
    if isinstance(draws, MultipleImputation):
        numbers = any(is_number(truth[name]) for name in truth)
        scores["coverage"] = coverage(truth, draws.interval(LEVEL), mask) if numbers else None
    return scores


def draw_again(line: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    """A line of a method that draws, its draws scored anew on a fit of this commit; errors and times stay."""
    run = Run(*(line[field] for field in Run._fields))
    table, incomplete, mask, n_train = hide(run, folder)
    method = METHODS[run.method]()
    truth, seen = table.iloc[:n_train], mask[:n_train]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Columns kept out of the model|levels not seen at fit")
        completed = method.fit_transform(incomplete.iloc[:n_train])
        own = errors(truth, completed, seen)
        draws = method.sample(incomplete.iloc[:n_train], N_DRAWS)
        own |= scores_of_draws(truth, draws, seen)
    before = line["scores"]["in-sample"]
    return {
        **line,
        "scores": {**line["scores"], "in-sample": {**before, "energy": own["energy"], "coverage": own["coverage"]}},
        "draws": {
            **environment.describe(torch.get_num_threads()),
            "same_fit": all(own[name] == before[name] for name in ("nrmse_std", "pfc")),
        },
    }


def execute(run: Run, folder: Path | None) -> dict[str, Any]:
    """Hide, complete and score; seconds (``"run"``: of all of it), peak memory and environment beside the scores."""
    whole = time.perf_counter()
    # The truth is read for scoring alone: methods see `incomplete`.
    table, incomplete, mask, n_train = hide(run, folder)
    train, test = slice(None, n_train), slice(n_train, None)
    method = METHODS[run.method]()
    before = resident.forget_peak()
    seconds: dict[str, float] = {}
    scores: dict[str, dict[str, float | None]] = {}
    error = None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Columns kept out of the model|levels not seen at fit")
            begin = time.perf_counter()
            completed = method.fit_transform(incomplete.iloc[train])
            seconds["fit_transform"] = time.perf_counter() - begin
            peak = resident.peak() - before
            scores["in-sample"] = errors(table.iloc[train], completed, mask[train])
            draws = method.sample(incomplete.iloc[train], N_DRAWS) if hasattr(method, "sample") else [completed]
            scores["in-sample"] |= scores_of_draws(table.iloc[train], draws, mask[train])
            if run.protocol == "split" and hasattr(method, "transform"):
                unseen = method.transform(incomplete.iloc[test])
                scores["held-out"] = errors(table.iloc[test], unseen, mask[test])
            elif hasattr(method, "transform"):
                new = incomplete.iloc[np.arange(NEW_ROWS) % len(table)].reset_index(drop=True)
                seconds["transform of 10,000 rows"] = statistics.median(
                    seconds_of(lambda: method.transform(new)) for _ in range(TIMED_CALLS)
                )
    except Exception as failure:
        if run.method.startswith("vsae_fast"):
            raise
        error = f"{type(failure).__name__}: {failure}"
        peak = resident.peak() - before
    seconds["run"] = time.perf_counter() - whole
    return {
        **run._asdict(),
        "n_rows": n_train,
        "scores": scores,
        "error": error,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "peak_mb": round(peak / 1e6, 1),
        "environment": environment.describe(torch.get_num_threads()),
    }
