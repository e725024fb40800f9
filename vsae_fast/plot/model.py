"""The training and the model: curves, how well rows are sampled, where they lie in the latent space."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np

from vsae_fast.plot.axes import DAY, IMPUTED, NEUTRAL, OBSERVED, SEQUENCE, bare, own_or_new, show_dates
from vsae_fast.table.column import level_key
from vsae_fast.table.containers import read_table
from vsae_fast.table.mask import observed_cells
from vsae_fast.table.schema import column_position

if TYPE_CHECKING:
    from vsae_fast.estimator import VSAEImputer

POINTS = 5000


def training(imputer: VSAEImputer, *, ax: Any = None) -> Any:
    """Draw training loss and validation score by epoch, a line for each network; points mark the epochs kept.

    Parameters
    ----------
    imputer : VSAEImputer
        Fitted.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        There is no network.
    """
    if not imputer.history_ or not imputer.history_[0].epoch:
        raise ValueError("there is nothing to show: no network was trained")
    ax = own_or_new(ax, 6, 4)
    right = ax.twinx()  # the loss of training is weighted in its own way and is on a scale of its own
    for history in imputer.history_:
        epochs = np.asarray(history.epoch) + 1
        right.plot(epochs, history.loss, color=OBSERVED, alpha=0.6, linewidth=0.9)
        ax.plot(epochs, history.score, color=IMPUTED, alpha=0.8, linewidth=0.9)
        if history.best_epoch >= 0:
            ax.plot(history.best_epoch + 1, history.score[history.best_epoch], "o", color=IMPUTED, markersize=4)
    _limit(ax, np.concatenate([history.score for history in imputer.history_]), worst_is_low=True)
    _limit(right, np.concatenate([history.loss for history in imputer.history_]), worst_is_low=False)
    ax.spines["top"].set_visible(False)
    right.spines["top"].set_visible(False)
    ax.set_xlabel("epoch")
    ax.set_ylabel("validation score (higher is better)", color=IMPUTED)
    right.set_ylabel("training loss (lower is better)", color=OBSERVED)
    return ax


def _limit(ax: Any, values: Any, *, worst_is_low: bool) -> None:
    """Leave out how far away the first epochs begin: it would flatten all that follows."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return
    low, high = np.quantile(finite, (0.1, 1) if worst_is_low else (0, 0.9))
    margin = 0.1 * (high - low) + 1e-9
    ax.set_ylim(low - margin, high + margin)


def effective_sample_size(imputer: VSAEImputer, X: Any, mask: Any = None, *, ax: Any = None) -> Any:
    """Draw how many of its samples each row's imputation really rests on.

    Parameters
    ----------
    imputer : VSAEImputer
        Fitted.
    X : table, shape (N, columns)
    mask : array or frame of bool or 0/1, shape (N, columns), optional
        1 = observed.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    size = imputer.effective_sample_size(X, mask)
    ax = own_or_new(ax, 5, 3.5)
    low, high = max(size.min(), 1.0), max(size.max(), 2.0) * 1.001
    if high > 20 * low:
        ax.set_xscale("log")
        edges = np.geomspace(low, high, 40)
    else:
        edges = np.linspace(low, high, 40)
    ax.hist(size.clip(1), bins=edges, color=OBSERVED)
    median = float(np.median(size))
    ax.axvline(median, color=IMPUTED, linewidth=1)
    bare(ax)
    ax.set_xlabel("effective number of samples")
    ax.set_ylabel("rows")
    ax.set_title(f"median {median:.0f}; {np.mean(size < 10):.1%} of the rows below 10", fontsize=10)
    return ax


def latent(imputer: VSAEImputer, X: Any, mask: Any = None, *, color_by: Hashable | None = None, ax: Any = None) -> Any:
    """Draw the rows where the first network's encoders put them: two principal components of the latent means.

    Parameters
    ----------
    imputer : VSAEImputer
        Fitted.
    X : table, shape (N, columns)
        At most 5000 rows are drawn, evenly chosen.
    mask : array or frame of bool or 0/1, shape (N, columns), optional
        1 = observed.
    color_by : name or position, optional
        Column whose values colour the points; grey where it is missing.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        No such column, or there is no network.
    """
    from sklearn.decomposition import PCA

    table = read_table(X)
    position = None if color_by is None else column_position(table.names, color_by)
    means = imputer.embed(X, mask)
    if means.shape[1] == 0:
        raise ValueError("there is nothing to show: no network was trained")
    rows = np.linspace(0, len(means) - 1, min(len(means), POINTS)).astype(int)
    n_components = min(2, *means.shape)
    fitted = PCA(n_components).fit(means[rows])
    points = np.zeros((len(rows), 2))
    points[:, :n_components] = fitted.transform(means[rows])
    ax = own_or_new(ax, 5.5, 4.5)
    style = {"s": 8, "linewidths": 0, "alpha": 0.7}
    if position is None:
        ax.scatter(*points.T, color=OBSERVED, **style)
    else:
        known = observed_cells(table, mask)[rows, position]
        ax.scatter(*points[~known].T, color=NEUTRAL, **style)
        values = table.columns()[position].values[rows]
        _coloured(ax, points[known], values[known], imputer.schema_.columns[position], style)
    bare(ax)
    shares = [*fitted.explained_variance_ratio_, 0.0]
    ax.set_xlabel(f"first component ({shares[0]:.0%} of the variance)")
    ax.set_ylabel(f"second component ({shares[1]:.0%})")
    return ax


def _coloured(ax: Any, points: Any, values: Any, description: Any, style: dict[str, Any]) -> None:
    if description.attribute_kind == "numerical":
        is_date = description.kind == "datetime"
        drawn = ax.scatter(*points.T, c=values.astype(float) / (DAY if is_date else 1), cmap="viridis", **style)
        bar = ax.figure.colorbar(drawn, ax=ax, label=str(description.name), shrink=0.8)
        if is_date:
            show_dates(bar.ax.yaxis)
        return
    levels = sorted(set(values.tolist()), key=level_key)
    for i, level in enumerate(levels):
        last = i >= len(SEQUENCE) - 1 and len(levels) > len(SEQUENCE)
        chosen = np.isin(values, levels[i:]) if last else values == level
        name = f"{len(levels) - i} others" if last else str(level)
        ax.scatter(*points[chosen].T, color=SEQUENCE[i], label=name, **style)
        if last:
            break
    ax.legend(frameon=False, fontsize=8, title=str(description.name), title_fontsize=8, markerscale=2)
