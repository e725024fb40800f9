"""A joint normal distribution of all columns, fitted to incomplete rows by expectation maximisation.

Of latent-variable models the linear one: factor analysis with as many factors as columns. What a row lacks has a
closed-form expected value given what it has, whatever the pattern of holes (Little and Rubin 2002, section 11.2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vsae_fast import _native

Array = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

MOST_ITERATIONS, SETTLED = 60, 2e-3  # largest change of a mean or covariance, in units of the columns' deviations


class JointGaussian(NamedTuple):
    """Normal distribution of ``D`` columns.

    Attributes
    ----------
    mean : numpy.ndarray of float64, shape (D,)
    covariance : numpy.ndarray of float64, shape (D, D)
        Positive definite.
    """

    mean: Array
    covariance: Array

    def complete(self, x: Array, observed: BoolArray, n_threads: int = 1) -> Array:
        """Rows with E[x | what the row has] where nothing is observed, shape (N, D).

        Every row is computed alone and in one order.

        Parameters
        ----------
        x : numpy.ndarray of float64, shape (N, D)
            Anything where unobserved.
        observed : numpy.ndarray of bool, shape (N, D)
        n_threads : int
        """
        completed = np.empty(x.shape)
        self._run(_native.conditional_means, x, observed, completed, n_threads=n_threads)
        return completed

    def moments(self, x: Array, observed: BoolArray, n_threads: int = 1) -> tuple[Array, Array]:
        """Sums over the rows of E[x], shape (D,), and E[x x'], shape (D, D)."""
        n_columns = len(self.mean)
        first, second = np.empty(n_columns), np.empty((n_columns, n_columns))
        self._run(_native.expected_moments, x, observed, first, second, n_threads=n_threads)
        return first, second

    def _run(
        self, function: Callable[..., None], x: Array, observed: BoolArray, *results: Array, n_threads: int
    ) -> None:
        """Check shapes, then call a function of the extension, which writes the results."""
        n_columns = len(self.mean)
        if self.covariance.shape != (n_columns, n_columns):
            raise ValueError(f"covariance must have shape {(n_columns, n_columns)}, got {self.covariance.shape}")
        if x.ndim != 2 or x.shape[1] != n_columns or observed.shape != x.shape:
            raise ValueError(
                f"x and observed must both have shape (N, {n_columns}), got {x.shape} and {observed.shape}"
            )
        mean, covariance, rows = (np.ascontiguousarray(a, dtype=np.float64) for a in (self.mean, self.covariance, x))
        seen = np.ascontiguousarray(observed, dtype=np.bool_)
        function(
            n_columns, mean.ctypes.data, covariance.ctypes.data, len(rows), rows.ctypes.data, seen.ctypes.data,
            *(result.ctypes.data for result in results), n_threads,
        )  # fmt: skip


def independent(n_columns: int) -> JointGaussian:
    """Columns of mean 0 and variance 1 that say nothing of each other."""
    return JointGaussian(np.zeros(n_columns), np.eye(n_columns))


def fit(
    x: Array, observed: BoolArray, prior: float, start: JointGaussian | None = None, n_threads: int = 1
) -> JointGaussian:
    """Fit a normal distribution to incomplete rows of columns with a variance near 1.

    Parameters
    ----------
    x : numpy.ndarray of float64, shape (N, D)
        Anything where unobserved.
    observed : numpy.ndarray of bool, shape (N, D)
    prior : float
        Rows' worth of independent columns of variance 1, which keep the covariance positive definite.
    start : JointGaussian, optional
        To begin with; of independent columns where it is left out.
    n_threads : int
        Results do not depend on it.
    """
    n_rows, n_columns = x.shape
    identity = np.eye(n_columns)
    now = start if start is not None else independent(n_columns)
    for _ in range(MOST_ITERATIONS):
        first, second = now.moments(x, observed, n_threads)
        mean = first / n_rows
        covariance = (second - n_rows * np.outer(mean, mean) + prior * identity) / (n_rows + prior)
        change = max(np.abs(mean - now.mean).max(), np.abs(covariance - now.covariance).max())
        now = JointGaussian(mean, covariance)
        if change < SETTLED:
            break
    return now
