"""A joint normal distribution of all columns, fitted to incomplete rows by expectation maximisation.

Of latent-variable models the linear one: factor analysis with as many factors as columns. What a row lacks has a
closed-form expected value given what it has, whatever the pattern of holes (Little and Rubin 2002, section 11.2).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vsae_fast import _native

Array = npt.NDArray[np.float64]
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
        mean, covariance, x, observed = self._checked(x, observed)
        completed = np.empty_like(x)
        _native.conditional_means(
            len(mean), mean.ctypes.data, covariance.ctypes.data, len(x), x.ctypes.data, observed.ctypes.data,
            completed.ctypes.data, n_threads,
        )  # fmt: skip
        return completed

    def moments(self, x: Array, observed: BoolArray, n_threads: int = 1) -> tuple[Array, Array]:
        """Sums over the rows of E[x], shape (D,), and E[x x'], shape (D, D)."""
        mean, covariance, x, observed = self._checked(x, observed)
        first, second = np.empty_like(mean), np.empty_like(covariance)
        _native.expected_moments(
            len(mean), mean.ctypes.data, covariance.ctypes.data, len(x), x.ctypes.data, observed.ctypes.data,
            first.ctypes.data, second.ctypes.data, n_threads,
        )  # fmt: skip
        return first, second

    def _checked(self, x: Array, observed: BoolArray) -> tuple[Array, Array, Array, BoolArray]:
        n_columns = len(self.mean)
        if self.covariance.shape != (n_columns, n_columns):
            raise ValueError(f"covariance must have shape {(n_columns, n_columns)}, got {self.covariance.shape}")
        if x.ndim != 2 or x.shape[1] != n_columns or observed.shape != x.shape:
            raise ValueError(
                f"x and observed must both have shape (N, {n_columns}), got {x.shape} and {observed.shape}"
            )
        return (
            np.ascontiguousarray(self.mean, dtype=np.float64),
            np.ascontiguousarray(self.covariance, dtype=np.float64),
            np.ascontiguousarray(x, dtype=np.float64),
            np.ascontiguousarray(observed, dtype=np.bool_),
        )


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
    now = start if start is not None else JointGaussian(np.zeros(n_columns), identity)
    for _ in range(MOST_ITERATIONS):
        first, second = now.moments(x, observed, n_threads)
        mean = first / n_rows
        covariance = (second - n_rows * np.outer(mean, mean) + prior * identity) / (n_rows + prior)
        change = max(np.abs(mean - now.mean).max(), np.abs(covariance - now.covariance).max())
        now = JointGaussian(mean, covariance)
        if change < SETTLED:
            break
    return now
