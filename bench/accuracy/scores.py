"""Scores of a completed table against the truth: errors of hidden cells, and how far the rows' distribution is off."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist

from bench.accuracy.encoding import Array, Encoding, is_number
from vsae_fast import metrics
from vsae_fast.multiple import Interval

ENERGY_ROWS = 1000


def errors(truth: pd.DataFrame, completed: pd.DataFrame, mask: np.ndarray) -> dict[str, float | None]:
    """NRMSE with three normalisations and PFC; None where a table has no such column.

    Parameters
    ----------
    truth, completed : pandas.DataFrame, shape (N, M)
        Cells that are missing in the truth are not scored.
    mask : numpy.ndarray of bool, shape (N, M)
        1 = observed.
    """
    scores = {
        f"nrmse_{kind}": metrics.nrmse(truth, completed, mask, normalize=kind) for kind in ("std", "range", "rms")
    }
    scores["pfc"] = metrics.pfc(truth, completed, mask)
    return {name: None if np.isnan(score) else round(score, 5) for name, score in scores.items()}


def coverage(truth: pd.DataFrame, interval: Interval, mask: np.ndarray) -> float | None:
    """Share of the hidden numerical cells inside their interval; None without such cells.

    Parameters
    ----------
    truth : pandas.DataFrame, shape (N, M)
    interval : Interval
        Bounds, each of shape (N, M).
    mask : numpy.ndarray of bool, shape (N, M)
        1 = observed.
    """
    inside = []
    for j, name in enumerate(truth):
        scored = ~mask[:, j] & truth[name].notna().to_numpy()
        if is_number(truth[name]) and scored.any():
            true = truth[name].to_numpy(float)[scored]
            inside.append((interval.low[scored, j] <= true) & (true <= interval.high[scored, j]))
    return round(float(np.concatenate(inside).mean()), 4) if inside else None


def energy_distance(truth: pd.DataFrame, drawn: pd.DataFrame) -> float:
    """Energy distance between true and drawn rows: standardised numbers, levels one-hot over the root of two.

    ``2 E|X - Y| - E|X - X'| - E|Y - Y'|`` over the first 1000 rows that are complete by nature (Szekely and Rizzo
    2013): 0 where both have one distribution.
    """
    rows = np.flatnonzero(truth.notna().all(axis=1))[:ENERGY_ROWS]
    encoding = Encoding(truth)
    width = np.ones(encoding.n_columns)
    for name, where in zip(encoding.names, encoding.columns, strict=True):
        if name in encoding.levels:
            width[where] = 2**-0.5
    x, y = (encoding.encode(table.iloc[rows]) * width for table in (truth, drawn))
    return round(float(2 * cdist(x, y).mean() - _spread(x) - _spread(y)), 5)


def _spread(x: Array) -> float:
    n = len(x)
    return float(cdist(x, x).sum() / (n * (n - 1)))
