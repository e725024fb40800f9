"""Latent classes, fitted to incomplete rows of levels by expectation maximisation.

Of latent-variable models the one with a discrete latent: within a class attributes are independent (Lazarsfeld and
Henry 1968). What a row lacks has a closed-form distribution given what it has, whatever the pattern of holes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vsae_fast import _native
from vsae_fast.gaussian_mixture import Array, BoolArray, FloatArray
from vsae_fast.normal_scores import IntArray

# Levels' worth of observations, spread as the attribute's frequencies are, in each attribute of each class; classes'
# worth of rows in each class. Both keep probabilities positive.
LEVEL_PRIOR, CLASS_PRIOR = 1.0, 0.5
MOST_ITERATIONS, SETTLED = 200, 1e-5  # gain of a row's mean log-likelihood
DIFFERENT = 0.3  # Dirichlet parameter of the classes that rows begin in: the less, the further classes are apart


class LatentClasses(NamedTuple):
    """Mixture of ``K`` products of categorical distributions of ``M`` attributes with ``D`` levels in all.

    Attributes
    ----------
    starts : numpy.ndarray of int32, shape (M + 1,)
        First place of each attribute among all levels; the last is ``D``.
    weight : numpy.ndarray of float64, shape (K,)
        Of the classes.
    level : numpy.ndarray of float64, shape (D, K)
        Probability of each level in each class, positive.
    """

    starts: IntArray
    weight: Array
    level: Array

    def counts(self, levels: IntArray, n_threads: int = 1) -> tuple[Array, Array, float]:
        """Over the rows: expected number of each class, shape (K,), and with each level, (D, K); log-likelihood.

        Parameters
        ----------
        levels : numpy.ndarray of int32, shape (N, M)
            Counted from 0 within the attribute; -1 where unobserved.
        n_threads : int
            Results do not depend on it.

        Raises
        ------
        ValueError
            Shapes that do not fit, levels out of range.
        """
        starts, weight, level = self._checked()
        widths = np.diff(self.starts)
        if levels.ndim != 2 or levels.shape[1] != len(widths):
            raise ValueError(f"levels must have shape (N, {len(widths)}), got {levels.shape}")
        if ((levels < -1) | (levels >= widths)).any():
            raise ValueError("levels must be counted from 0 within their attribute, -1 where unobserved")
        rows = np.ascontiguousarray(levels, dtype=np.int32)
        in_class, with_level, log_likelihood = np.empty(len(weight)), np.empty(level.shape), np.empty(1)
        _native.expected_counts(
            len(weight), len(widths), starts.ctypes.data, weight.ctypes.data, level.ctypes.data, len(rows),
            rows.ctypes.data, in_class.ctypes.data, with_level.ctypes.data, log_likelihood.ctypes.data, n_threads,
        )  # fmt: skip
        return in_class, with_level, float(log_likelihood[0])

    def _checked(self) -> tuple[IntArray, Array, Array]:
        """The arrays as the extension reads them; ValueError where shapes do not fit."""
        if self.level.shape != (self.starts[-1], len(self.weight)):
            raise ValueError(
                f"level must have shape ({self.starts[-1]}, {len(self.weight)}) by starts and weight, got "
                f"{self.level.shape}"
            )
        starts = np.ascontiguousarray(self.starts, dtype=np.int32)
        weight, level = (np.ascontiguousarray(a, dtype=np.float64) for a in (self.weight, self.level))
        return starts, weight, level


def level_probabilities(
    mixtures: Sequence[LatentClasses], x: FloatArray, observed: BoolArray, n_threads: int = 1
) -> FloatArray:
    """Probabilities of levels given what each row has, averaged over mixtures; ``x`` itself where observed.

    Logarithms are added up in double precision; the error is that of single precision. Every row is computed alone and
    in one order.

    Parameters
    ----------
    mixtures : sequence of LatentClasses
        Of the same attributes, with as many classes each.
    x : numpy.ndarray of float32, shape (N, D)
        One-hot levels; anything where unobserved.
    observed : numpy.ndarray of bool, shape (N, D)
        One value for the levels of an attribute.
    n_threads : int
        Results do not depend on it.

    Returns
    -------
    numpy.ndarray of float32, shape (N, D)

    Raises
    ------
    ValueError
        Mixtures of other attributes or numbers of classes, shapes that do not fit.
    """
    checked = [mixture._checked() for mixture in mixtures]
    starts = checked[0][0]
    if any(not np.array_equal(own, starts) or len(w) != len(checked[0][1]) for own, w, _ in checked):
        raise ValueError("mixtures must have the same attributes and as many classes each")
    if x.ndim != 2 or x.shape[1] != starts[-1] or observed.shape != x.shape:
        raise ValueError(f"x and observed must have shape (N, {starts[-1]}), got {x.shape} and {observed.shape}")
    weight, level = np.stack([own[1] for own in checked]), np.stack([own[2] for own in checked])
    x, observed = np.ascontiguousarray(x, dtype=np.float32), np.ascontiguousarray(observed, dtype=np.bool_)
    probability = np.empty_like(x)
    _native.level_probabilities(
        len(mixtures), weight.shape[1], len(starts) - 1, starts.ctypes.data, weight.ctypes.data, level.ctypes.data,
        len(x), x.ctypes.data, observed.ctypes.data, probability.ctypes.data, n_threads,
    )  # fmt: skip
    return probability


def fit(levels: IntArray, starts: IntArray, n_classes: int, seed: int, n_threads: int = 1) -> LatentClasses:
    """Fit latent classes to incomplete rows.

    Parameters
    ----------
    levels : numpy.ndarray of int32, shape (N, M)
        Counted from 0 within the attribute; -1 where unobserved.
    starts : numpy.ndarray of int32, shape (M + 1,)
        First place of each attribute among all levels, and their number.
    n_classes : int
    seed : int
        Of the classes that it begins with.
    n_threads : int
        Results do not depend on it.
    """
    frequency = _frequencies(levels, starts)
    now = _maximised(starts, *_random_counts(levels, starts, n_classes, seed), frequency)
    before = -np.inf
    for _ in range(MOST_ITERATIONS):
        in_class, with_level, log_likelihood = now.counts(levels, n_threads)
        now = _maximised(starts, in_class, with_level, frequency)
        if log_likelihood - before < SETTLED * len(levels):
            break
        before = log_likelihood
    return now


def _maximised(starts: IntArray, in_class: Array, with_level: Array, frequency: Array) -> LatentClasses:
    """The classes that make expected counts likeliest, with their priors."""
    weight = in_class + CLASS_PRIOR
    level = _shares(with_level + LEVEL_PRIOR * frequency[:, None], starts)
    return LatentClasses(starts, weight / weight.sum(), level)


def _frequencies(levels: IntArray, starts: IntArray) -> Array:
    """Share of each level among an attribute's observed ones, shape (D,); never quite 0."""
    _, places = _observed(levels, starts)
    return _shares(np.bincount(places, minlength=starts[-1]).astype(np.float64) + 1e-3, starts)


def _shares(counts: Array, starts: IntArray) -> Array:
    """Counts of levels, shape (D, ...), over the sum of their attribute's."""
    shares: Array = counts / np.repeat(np.add.reduceat(counts, starts[:-1], axis=0), np.diff(starts), axis=0)
    return shares


def _random_counts(levels: IntArray, starts: IntArray, n_classes: int, seed: int) -> tuple[Array, Array]:
    """Of rows that are put into classes at random."""
    shares = np.random.default_rng(seed).dirichlet(np.full(n_classes, DIFFERENT), size=len(levels))
    rows, places = _observed(levels, starts)
    with_level = np.zeros((starts[-1], n_classes))
    np.add.at(with_level, places, shares[rows])
    return shares.sum(0), with_level


def _observed(levels: IntArray, starts: IntArray) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Row of each observed level, and its place among all levels."""
    rows, attributes = np.nonzero(levels >= 0)
    return rows, starts[attributes] + levels[rows, attributes]
