"""Axes, colours and the one place that imports matplotlib."""

from __future__ import annotations

from typing import Any

# Paul Tol's bright scheme: safe for colour-blind readers.
OBSERVED, IMPUTED, NEUTRAL, ACCENT = "#4477aa", "#ee6677", "#bbbbbb", "#228833"
SEQUENCE = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")
DAY = 86_400.0  # seconds


def pyplot() -> Any:
    """``matplotlib.pyplot``.

    Raises
    ------
    ImportError
        matplotlib is not installed; the message names the remedy.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("pictures need matplotlib; pip install 'vsae_fast[plot]'") from error
    return plt


def own_or_new(ax: Any, width: float, height: float) -> Any:
    """``ax``, or the Axes of a new figure of this size in inches."""
    plt = pyplot()
    return plt.subplots(figsize=(width, height), layout="constrained")[1] if ax is None else ax


def show_dates(axis: Any) -> None:
    """Label an axis of days since 1970, which is how matplotlib counts them, with dates."""
    import matplotlib.dates

    dates: Any = matplotlib.dates  # which has no types
    locator = dates.AutoDateLocator()
    axis.set_major_locator(locator)
    axis.set_major_formatter(dates.ConciseDateFormatter(locator))


def bare(ax: Any) -> None:
    """Take the upper and right frame away."""
    ax.spines[["top", "right"]].set_visible(False)
