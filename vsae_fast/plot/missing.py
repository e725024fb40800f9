"""Which cells are missing, and which columns are missing together."""

from __future__ import annotations

from typing import Any

import numpy as np

from vsae_fast.plot.axes import IMPUTED, OBSERVED, own_or_new
from vsae_fast.table.containers import read_table
from vsae_fast.table.mask import observed_cells

MAX_NAMES = 60  # more labels than this are unreadable
MAX_LINES = 300  # a screen shows no more
MAX_WRITTEN = 16  # columns whose shares are written into the cells


def missingness(X: Any, mask: Any = None, *, ax: Any = None) -> Any:
    """Draw the table as a picture, holes in red, with the share of holes above each column.

    A line is a row; of long tables several neighbouring rows, redder where more of them have a hole.

    Parameters
    ----------
    X : table, shape (N, columns)
    mask : array or frame of bool or 0/1, shape (N, columns), optional
        1 = observed.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    table = read_table(X)
    observed = observed_cells(table, mask)
    n_rows, n_columns = table.shape
    ax = own_or_new(ax, min(max(0.42 * n_columns + 1.5, 4), 14), 4.5)
    n_lines = min(n_rows, MAX_LINES)
    edges = np.linspace(0, n_rows, n_lines + 1).astype(int)
    lines = np.add.reduceat(~observed, edges[:-1], axis=0, dtype=float) / np.diff(edges)[:, None]
    from matplotlib.colors import LinearSegmentedColormap

    colors = LinearSegmentedColormap.from_list("holes", [OBSERVED, IMPUTED])
    extent = (-0.5, n_columns - 0.5, n_rows, 0)
    ax.imshow(lines, aspect="auto", cmap=colors, vmin=0, vmax=1, interpolation="nearest", extent=extent)
    for j in range(1, n_columns if n_columns <= MAX_NAMES else 0):
        ax.axvline(j - 0.5, color="white", linewidth=0.8)
    shares = 1 - observed.mean(axis=0)
    if n_columns <= MAX_NAMES:
        rotation = 90 if n_columns > 8 else 0
        ax.set_xticks(range(n_columns), [str(name) for name in table.names], rotation=rotation, fontsize=8)
        top = ax.secondary_xaxis("top")
        top.set_xticks(range(n_columns), [f"{share:.0%}" for share in shares], rotation=rotation, fontsize=8)
        top.tick_params(length=0)
    else:
        ax.set_xlabel(f"{n_columns} columns")
    ax.set_ylabel(f"row (of {n_rows:,})")
    ax.set_title(f"{1 - observed.mean():.0%} of the cells are missing", fontsize=10)
    return ax


def co_missingness(X: Any, mask: Any = None, *, ax: Any = None) -> Any:
    """Draw how often a column is missing where another one is.

    Parameters
    ----------
    X : table, shape (N, columns)
        Columns without holes are left out.
    mask : array or frame of bool or 0/1, shape (N, columns), optional
        1 = observed.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        No cell is missing.
    """
    table = read_table(X)
    missing = ~observed_cells(table, mask)
    shown = np.flatnonzero(missing.any(axis=0))
    if not len(shown):
        raise ValueError("there is nothing to show: no cell is missing")
    holes = missing[:, shown].astype(float)
    together = holes.T @ holes / holes.sum(axis=0)[:, None]  # row: given that this is missing
    n = len(shown)
    size = min(max(0.5 * n + 2, 4), 12)
    ax = own_or_new(ax, size + 0.8, size)
    image = ax.imshow(together, cmap="viridis", vmin=0, vmax=1)
    if n <= MAX_NAMES:
        names = [str(table.names[j]) for j in shown]
        ax.set_xticks(range(n), names, rotation=90, fontsize=8)
        ax.set_yticks(range(n), names, fontsize=8)
    if n <= MAX_WRITTEN:
        for i in range(n):
            for j in range(n):
                color = "white" if together[i, j] < 0.6 else "black"
                ax.text(j, i, f"{together[i, j]:.0%}", ha="center", va="center", fontsize=7, color=color)
    ax.set_ylabel("where this is missing ...")
    ax.set_xlabel("... this is missing as well")
    ax.figure.colorbar(image, ax=ax, shrink=0.8, format=lambda share, _: f"{share:.0%}")
    return ax
