"""Known cells, hidden and imputed, beside the truth."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np

from vsae_fast.plot.axes import ACCENT, IMPUTED, NEUTRAL, OBSERVED, bare, own_or_new
from vsae_fast.table.containers import read_table
from vsae_fast.table.mask import observed_cells
from vsae_fast.table.schema import column_position

if TYPE_CHECKING:
    from vsae_fast.estimator import VSAEImputer

MAX_SHOWN = 200


def overimputation(
    imputer: VSAEImputer,
    X: Any,
    column: Hashable,
    mask: Any = None,
    *,
    share: float = 0.2,
    n_imputations: int = 50,
    level: float = 0.9,
    random_state: int = 0,
    ax: Any = None,
) -> Any:
    """Hide known cells of one column, draw them, and set the intervals beside the truth.

    The imputer has seen these cells when it was trained on ``X``; pass rows that it has not seen for an honest picture.

    Parameters
    ----------
    imputer : VSAEImputer
        Fitted.
    X : table, shape (N, columns)
    column : name or position
        Numerical or integer.
    mask : array or frame of bool or 0/1, shape (N, columns), optional
        1 = observed.
    share : float
        Of the column's known cells to hide.
    n_imputations : int
        Draws of each cell.
    level : float
        Of the intervals.
    random_state : int
        Decides which cells are hidden, and the draws.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        The column is not there, not a number, or has no known cell.

    References
    ----------
    Blackwell, Honaker, King. A Unified Approach to Measurement Error and Missing Data. 2017 (overimputation).
    """
    table = read_table(X)
    position = column_position(table.names, column)
    if imputer.schema_.columns[position].kind not in ("numerical", "integer"):
        raise ValueError(f"column {column!r} is {imputer.schema_.columns[position].kind}; choose a numerical one")
    if position in imputer.schema_.modelled and imputer.schema_.modelled.index(position) in imputer.self_masking_:
        raise ValueError(
            f"column {column!r} masks itself, so that known cells are not like missing ones; choose another"
        )
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share}")
    observed = observed_cells(table, mask)
    known = np.flatnonzero(observed[:, position])
    if not len(known):
        raise ValueError(f"column {column!r} has no known cell to hide")
    rng = np.random.default_rng(random_state)
    rows = np.sort(rng.choice(known, max(round(share * len(known)), 1), replace=False))
    truth = table.columns()[position].values[rows].astype(float)
    observed[rows, position] = False
    draws = imputer.sample(X, n_imputations, observed, random_state=random_state)
    low, high = (bound[rows, position] for bound in draws.interval(level))
    middle = draws.mean()[rows, position]
    inside = (low <= truth) & (truth <= high)

    ax = own_or_new(ax, 5, 5)
    shown = rng.permutation(len(rows))[:MAX_SHOWN]
    for where, color, name in ((inside, OBSERVED, "holds the truth"), (~inside, IMPUTED, "misses it")):
        some = shown[where[shown]]
        ax.errorbar(
            truth[some], middle[some], [(middle - low)[some].clip(0), (high - middle)[some].clip(0)],
            fmt="o", markersize=3, linewidth=0.8, color=color, alpha=0.8, label=f"interval {name}",
        )  # fmt: skip
    ends = [min(truth.min(), low.min()), max(truth.max(), high.max())]
    ax.plot(ends, ends, color=ACCENT, linewidth=1)
    ax.axhline(float(np.mean(truth)), color=NEUTRAL, linewidth=0.8, linestyle=":", zorder=0)
    bare(ax)
    ax.set_xlabel(f"{column}: true value")
    ax.set_ylabel("imputed: mean and interval")
    ax.set_title(f"{inside.mean():.0%} of {len(rows):,} hidden cells lie in their {level:.0%} interval", fontsize=10)
    ax.legend(frameon=False, fontsize=8)
    return ax
