"""Increasing curves between numbers and scores that are nearer to normal, as a Gaussian copula's margins are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from vsae_fast import _native
from vsae_fast.gaussian_mixture import Array, BoolArray

# Of a score, the rest is the number itself: spikes and gaps of a column bend its curve less, and far numbers still
# count as such.
NORMAL_SHARE = 0.7
MOST_KNOTS = 64

IntArray = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False, repr=False)  # arrays are neither compared nor printed as a whole
class ScoreCurves:
    """Piecewise linear curves of ``C`` columns, which go on beyond their ends with their average slope.

    Parameters
    ----------
    columns : numpy.ndarray of int32, shape (C,)
        Which columns of a matrix they are of.
    knots, scores : numpy.ndarray of float64, shape (C, K)
        Increasing along a row, K at least 2.

    Raises
    ------
    ValueError
        Other shapes, a negative column, or curves that do not increase.
    """

    columns: IntArray
    knots: Array
    scores: Array

    def __post_init__(self) -> None:
        if self.knots.ndim != 2 or self.knots.shape[1] < 2 or len(self.knots) != len(self.columns):
            raise ValueError(f"knots must have shape ({len(self.columns)}, at least 2), got {self.knots.shape}")
        if min(self.columns, default=0) < 0:
            raise ValueError(f"columns must not be negative, got {min(self.columns)}")
        if self.scores.shape != self.knots.shape:
            raise ValueError(f"scores must have the shape of knots, {self.knots.shape}, got {self.scores.shape}")
        both = np.stack([self.knots, self.scores])
        if not (np.isfinite(both).all() and (np.diff(both) > 0).all()):
            raise ValueError("knots and scores must be finite and increase along each row")

    def scores_of(self, x: Array, n_threads: int = 1) -> Array:
        """Rows with scores in place of numbers, shape (N, D); NaN stays. Every cell is computed alone."""
        return self._along(x, self.knots, self.scores, n_threads)

    def numbers_of(self, x: Array, n_threads: int = 1) -> Array:
        """Rows with numbers in place of scores, shape (N, D): the inverse of :meth:`scores_of`."""
        return self._along(x, self.scores, self.knots, n_threads)

    def _along(self, x: Array, start: Array, end: Array, n_threads: int) -> Array:
        if x.ndim != 2 or x.shape[1] <= max(self.columns, default=-1):
            raise ValueError(f"x must have two dimensions and all columns of the curves, got shape {x.shape}")
        result = np.array(x, dtype=np.float64, order="C")
        (n_curves, n_knots), (n_rows, n_columns) = start.shape, result.shape
        columns = np.ascontiguousarray(self.columns, dtype=np.int32)
        knots, values = (np.ascontiguousarray(side, dtype=np.float64) for side in (start, end))
        _native.along_curves(
            n_curves, n_knots, columns.ctypes.data, knots.ctypes.data, values.ctypes.data,
            n_rows, n_columns, result.ctypes.data, n_threads,
        )  # fmt: skip
        return result


def fit(x: Array, observed: BoolArray, columns: IntArray) -> ScoreCurves:
    """Curves by the observed numbers' ranks.

    A number's normal score is the normal quantile of its middle rank, its score the average of that and of the number
    itself.

    Parameters
    ----------
    x : numpy.ndarray of float64, shape (N, D)
        Columns with mean 0 and variance 1, or constant; anything where unobserved.
    observed : numpy.ndarray of bool, shape (N, D)
    columns : numpy.ndarray of int32, shape (C,)
        Which columns to fit curves to; at least one.
    """
    curves = [_curve(x[observed[:, column], column]) for column in columns]
    n_knots = max(2, *(len(knots) for knots, _ in curves))
    knots = np.array([_longer(knots, n_knots, 1.0) for knots, _ in curves])
    scores = np.array([_longer(scores, n_knots, _slope(knots, scores)) for knots, scores in curves])
    return ScoreCurves(columns, knots, scores)


def _curve(numbers: Array) -> tuple[Array, Array]:
    """Knots and scores of a column's observed numbers."""
    if not len(numbers):
        return np.zeros(1), np.zeros(1)
    values, counts = np.unique(numbers, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    normal = ndtri(middle / len(numbers))
    normal -= np.average(normal, weights=counts)
    deviation = np.sqrt(np.average(normal**2, weights=counts))
    if deviation > 0:
        normal /= deviation
    scores = NORMAL_SHARE * normal + (1 - NORMAL_SHARE) * values
    # Values of equal ranks apart, with both ends.
    kept = np.searchsorted(middle, np.linspace(0, len(numbers), MOST_KNOTS)).clip(0, len(values) - 1)
    kept = np.unique([0, *kept, len(values) - 1])
    return values[kept], scores[kept]


def _slope(knots: Array, scores: Array) -> float:
    return float((scores[-1] - scores[0]) / (knots[-1] - knots[0])) if len(knots) > 1 else 1.0


def _longer(side: Array, n_knots: int, step: float) -> Array:
    """More knots on the line that a curve goes on with, which change nothing."""
    return np.concatenate([side, side[-1] + step * np.arange(1, n_knots - len(side) + 1)])
