"""A mixture of normal distributions of all columns, fitted to incomplete rows by expectation maximisation.

Of latent-variable models the simplest with groups: a latent component, and within each the linear relations of one
covariance in common. What a row lacks has a closed-form expected value given what it has, whatever the pattern of holes
(Little and Rubin 2002, section 11.2; McLachlan and Peel 2000, section 3.8). One component is a joint normal
distribution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from vsae_fast import _native

Array = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

MOST_ITERATIONS, SETTLED = 60, 2e-3  # largest change of a mean or covariance, in units of the columns' deviations
# Rows' worth of the overall mean in each component, and of one more row in its weight: few rows make no component.
CENTRE_ROWS, WEIGHT_ROWS = 1.0, 1.0


class Moments(NamedTuple):
    """Sums over rows, each given what it has.

    Attributes
    ----------
    weight : numpy.ndarray of float64, shape (C,)
        Of the components' probabilities.
    first : numpy.ndarray of float64, shape (C, D)
        Of probability times E[x | component].
    second : numpy.ndarray of float64, shape (D, D)
        Of E[x x'].
    """

    weight: Array
    first: Array
    second: Array


class GaussianMixture(NamedTuple):
    """Mixture of ``C`` normal distributions of ``D`` columns that differ in their means.

    Attributes
    ----------
    weight : numpy.ndarray of float64, shape (C,)
        Positive, with a sum of 1.
    mean : numpy.ndarray of float64, shape (C, D)
    covariance : numpy.ndarray of float64, shape (D, D)
        Of every component; positive definite.
    """

    weight: Array
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

    def moments(self, x: Array, observed: BoolArray, n_threads: int = 1) -> Moments:
        """What expectation maximisation needs of incomplete rows; see :meth:`complete` for the parameters."""
        n_components, n_columns = self.mean.shape
        moments = Moments(np.empty(n_components), np.empty((n_components, n_columns)), np.empty((n_columns, n_columns)))
        self._run(_native.expected_moments, x, observed, *moments, n_threads=n_threads)
        return moments

    def _run(
        self, function: Callable[..., None], x: Array, observed: BoolArray, *results: Array, n_threads: int
    ) -> None:
        """Check shapes, then call a function of the extension, which writes the results."""
        n_components, n_columns = self.mean.shape
        if self.weight.shape != (n_components,):
            raise ValueError(f"weight must have shape {(n_components,)}, got {self.weight.shape}")
        if self.covariance.shape != (n_columns, n_columns):
            raise ValueError(f"covariance must have shape {(n_columns, n_columns)}, got {self.covariance.shape}")
        if x.ndim != 2 or x.shape[1] != n_columns or observed.shape != x.shape:
            raise ValueError(
                f"x and observed must both have shape (N, {n_columns}), got {x.shape} and {observed.shape}"
            )
        log_weight, mean, covariance, rows = (
            np.ascontiguousarray(a, dtype=np.float64) for a in (np.log(self.weight), self.mean, self.covariance, x)
        )
        seen = np.ascontiguousarray(observed, dtype=np.bool_)
        function(
            n_columns, n_components, log_weight.ctypes.data, mean.ctypes.data, covariance.ctypes.data,
            len(rows), rows.ctypes.data, seen.ctypes.data,
            *(result.ctypes.data for result in results), n_threads,
        )  # fmt: skip


def independent(n_columns: int) -> GaussianMixture:
    """One component of columns of mean 0 and variance 1 that say nothing of each other."""
    return GaussianMixture(np.ones(1), np.zeros((1, n_columns)), np.eye(n_columns))


def fit(
    x: Array, observed: BoolArray, prior: float, start: GaussianMixture | None = None, n_threads: int = 1
) -> GaussianMixture:
    """Fit a mixture to incomplete rows of columns with a variance near 1.

    Parameters
    ----------
    x : numpy.ndarray of float64, shape (N, D)
        Anything where unobserved.
    observed : numpy.ndarray of bool, shape (N, D)
    prior : float
        Rows' worth of independent columns of variance 1, which keep the covariance positive definite.
    start : GaussianMixture, optional
        To begin with, of as many components as are fitted (:func:`split`); one of independent columns where it is left
        out.
    n_threads : int
        Results do not depend on it.
    """
    now = start if start is not None else independent(x.shape[1])
    for _ in range(MOST_ITERATIONS):
        found = _most_likely(now.moments(x, observed, n_threads), len(x), prior)
        moved = found.weight[:, None] * np.abs(found.mean - now.mean)
        change = max(moved.max(), np.abs(found.covariance - now.covariance).max())
        now = found
        if change < SETTLED:
            break
    return now


def split(
    mixture: GaussianMixture,
    x: Array,
    observed: BoolArray,
    prior: float,
    n_components: int,
    seed: int,
    n_threads: int = 1,
) -> GaussianMixture:
    """Components around rows that are far from each other, as the mixture completes them: a start for :func:`fit`.

    Parameters
    ----------
    mixture : GaussianMixture
    x, observed, prior, n_threads
        See :func:`fit`; at least ``n_components`` rows.
    n_components, seed : int
        Rows are chosen at random, as k-means++ does (Arthur and Vassilvitskii 2007).
    """
    from sklearn.cluster import kmeans_plusplus  # late: what imputes without it need not wait for it

    completed = mixture.complete(x, observed, n_threads)
    centres, _ = kmeans_plusplus(completed, n_components, random_state=seed)
    nearest = cdist(completed, centres, "sqeuclidean").argmin(axis=1)
    member = np.eye(n_components)[nearest]
    return _most_likely(Moments(member.sum(0), member.T @ completed, completed.T @ completed), len(x), prior)


def _most_likely(moments: Moments, n_rows: int, prior: float) -> GaussianMixture:
    """The mixture that rows of such moments and the priors make most likely."""
    weight, first, second = moments
    n_components, n_columns = first.shape
    several = n_components > 1
    centre_rows, weight_rows = (CENTRE_ROWS, WEIGHT_ROWS) if several else (0.0, 0.0)
    overall = first.sum(0) / n_rows
    mean = (first + centre_rows * overall) / (weight + centre_rows)[:, None]
    cross = first.T @ mean
    scatter = second - cross - cross.T + (weight[:, None] * mean).T @ mean
    apart = mean - overall
    scatter += centre_rows * apart.T @ apart
    return GaussianMixture(
        (weight + weight_rows) / (n_rows + n_components * weight_rows),
        mean,
        (scatter + prior * np.eye(n_columns)) / (n_rows + prior),
    )
