"""Scores of a completed table against the truth: errors of hidden cells, and how far the rows' distribution is off."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist

from bench.accuracy.encoding import Array, Encoding, is_number
from vsae_fast import metrics

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


def coverage(truth: pd.DataFrame, draws: list[pd.DataFrame], mask: np.ndarray, level: float = 0.9) -> float | None:
    """Share of the hidden numerical cells inside the central interval of their draws; None without such cells.

    Quantiles at position ``(n + 1) q`` among ``n`` draws (Weibull's), whose interval covers ``level`` of further draws
    from the same distribution; NumPy's default ones cover 86 % instead of 90 % with fifty draws.
    """
    inside = []
    tails = [(1 - level) / 2, (1 + level) / 2]
    for j, name in enumerate(truth):
        scored = ~mask[:, j] & truth[name].notna().to_numpy()
        if is_number(truth[name]) and scored.any():
            values = np.stack([table[name].to_numpy(float)[scored] for table in draws])
            low, high = np.quantile(values, tails, axis=0, method="weibull")
            true = truth[name].to_numpy(float)[scored]
            inside.append((low <= true) & (true <= high))
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
