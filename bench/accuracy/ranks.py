"""Ranks of the methods over the runs of the arena."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata, studentized_range

Line = dict[str, Any]
ERRORS = ("nrmse_std", "pfc")
SCORINGS = ("in-sample", "held-out")
UNRANKED = ("hyperimpute",)  # needs a Python of its own and minutes for a small table: run on some, by name


class Comparison(NamedTuple):
    """Mean ranks of the methods that took part everywhere.

    Attributes
    ----------
    ranks : dict of str to float
        Mean rank, 1 is best; sorted.
    n_sets : int
        Independent tables: the blocks of the critical difference.
    n_conditions : int
        Masks, mechanisms and rates behind the means.
    """

    ranks: dict[str, float]
    n_sets: int
    n_conditions: int

    def critical_difference(self, significance: float = 0.05) -> float:
        """Nemenyi's: mean ranks that differ by less cannot be told apart (Demsar 2006)."""
        k = len(self.ranks)
        quantile = studentized_range.ppf(1 - significance, k, math.inf) / math.sqrt(2)
        return float(quantile * math.sqrt(k * (k + 1) / (6 * self.n_sets)))


def compare(
    lines: Iterable[Line], scoring: str = "in-sample", keep: Callable[[Line], bool] = lambda line: True
) -> Comparison | None:
    """Rank methods within each mask of each table, average within tables, then over tables.

    A table with numbers and levels gives the mean of both ranks. A method that has no score somewhere where others have
    one is left out altogether, and so are those of ``UNRANKED``; None where fewer than two are left.
    """
    scores: dict[tuple[Any, ...], dict[str, Line]] = defaultdict(dict)
    for line in lines:
        if line["protocol"] == "split" and line["method"] not in UNRANKED and keep(line):
            condition = (line["set"], line["mechanism"], line["hidden"], line["seed"])
            scores[condition][line["method"]] = line["scores"].get(scoring) or {}
    methods = sorted({method for by_method in scores.values() for method in by_method})
    complete = [
        m for m in methods if all(any(by[m].get(e) is not None for e in ERRORS) for by in scores.values() if m in by)
    ]
    # Conditions that are not finished for everyone yet do not count.
    conditions = {c: by for c, by in scores.items() if all(m in by for m in complete)}
    if len(complete) < 2 or not conditions:
        return None
    by_set: dict[str, list[np.ndarray]] = defaultdict(list)
    for (name, *_), by_method in conditions.items():
        kinds = [e for e in ERRORS if by_method[complete[0]].get(e) is not None]
        ranks = [rankdata([by_method[m][error] for m in complete]) for error in kinds]
        by_set[name].append(np.mean(ranks, axis=0))
    means = np.mean([np.mean(ranks, axis=0) for ranks in by_set.values()], axis=0)
    order = np.argsort(means, kind="stable")
    return Comparison({complete[i]: float(means[i]) for i in order}, len(by_set), len(conditions))
