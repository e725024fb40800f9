"""Observed against imputed values, column by column."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from vsae_fast.plot.axes import DAY, IMPUTED, OBSERVED, bare, pyplot, show_dates
from vsae_fast.table.column import Column
from vsae_fast.table.containers import read_table
from vsae_fast.table.mask import read_mask

BINS = 24
MAX_LEVELS_SHOWN = 12
COLORS = {"observed": OBSERVED, "imputed": IMPUTED}


def distributions(
    X_imputed: Any, mask: Any, *, columns: Sequence[Hashable] | None = None, max_columns: int = 12
) -> Any:
    """Compare the distributions of observed and imputed cells, one panel per column.

    Parameters
    ----------
    X_imputed : table, shape (N, columns)
        Completed.
    mask : array or frame of bool or 0/1, shape (N, columns)
        1 = observed.
    columns : sequence of names, optional
        Columns to show; the first ones with holes where it is left out. Blocks of numbers are not shown.
    max_columns : int

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        One for each column that is shown; their ``figure`` is a new one.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        No column to show.
    """
    table = read_table(X_imputed)
    observed = read_mask(table, mask)
    shown = [
        (column, observed[:, j])
        for j, column in enumerate(table.columns())
        if not column.block and (column.name in columns if columns is not None else not observed[:, j].all())
    ][:max_columns]
    if not shown:
        raise ValueError("no column to show: none was asked for that exists, none has a hole, or all are blocks")
    n_across = min(4, len(shown))
    n_down = -(-len(shown) // n_across)
    figure, grid = pyplot().subplots(
        n_down, n_across, figsize=(3.2 * n_across, 2.4 * n_down + 0.5), layout="constrained", squeeze=False
    )
    panels = grid.ravel()
    for panel, (column, seen) in zip(panels, shown, strict=False):
        _panel(panel, column, seen)
    for panel in panels[len(shown) :]:
        panel.set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    return panels[: len(shown)]


def _panel(panel: Any, column: Column, seen: Any) -> None:
    groups = {"observed": column.values[seen], "imputed": column.values[~seen]}
    panel.set_title(str(column.name), fontsize=9)
    panel.tick_params(labelsize=7)
    bare(panel)
    if column.values.dtype == object:
        levels = sorted({str(v) for v in column.values.tolist()})[:MAX_LEVELS_SHOWN]
        for offset, (name, values) in zip((-0.2, 0.2), groups.items(), strict=True):
            text = [str(v) for v in values.tolist()]
            share = [text.count(level) / max(len(text), 1) for level in levels]
            panel.bar(np.arange(len(levels)) + offset, share, width=0.4, label=name, color=COLORS[name])
        panel.set_xticks(np.arange(len(levels)), levels, rotation=30 if len(levels) > 4 else 0)
        panel.set_ylabel("share", fontsize=7)
    else:
        unit = DAY if column.storage == "datetime" else 1.0  # matplotlib counts days since 1970
        edges = np.histogram_bin_edges(column.values / unit, bins=BINS)
        for name, values in groups.items():
            panel.hist(values / unit, bins=edges, density=len(values) > 0, alpha=0.55, label=name, color=COLORS[name])
        panel.set_ylabel("density", fontsize=7)
        if column.storage == "datetime":
            show_dates(panel.xaxis)
        elif column.storage == "duration":
            panel.set_xlabel("seconds", fontsize=7)
