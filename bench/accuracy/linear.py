"""Opponents of scikit-learn on one matrix: simple, nearest neighbours, chained Bayesian ridge regressions."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer

from bench.accuracy.encoding import Array, Encoding, mean_and_mode


class MeanAndMode:
    """Mean of numbers, most frequent level."""

    def fit_transform(self, table: pd.DataFrame) -> pd.DataFrame:
        """Learn the values and fill them in."""
        self.values = mean_and_mode(table)
        return self.transform(table)

    def transform(self, table: pd.DataFrame) -> pd.DataFrame:
        """Fill them into other rows."""
        return table.fillna(self.values)


class OnMatrix:
    """A scikit-learn imputer on standardised numbers and one-hot levels; the largest of a level's columns wins.

    With ``reference`` the first level has no column of its own, as in regression: it is 1 minus the others. A chain of
    regressions would otherwise see each level's column as an exact function of the others and never move.
    """

    def __init__(self, imputer: Any, reference: bool = False) -> None:
        self.imputer, self.reference = imputer, reference

    def fit_transform(self, table: pd.DataFrame) -> pd.DataFrame:
        """Learn from an incomplete table and complete it."""
        self.encoding = Encoding(table)
        self.levels = [
            where for name, where in zip(table, self.encoding.columns, strict=True) if name in self.encoding.levels
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return self._fill(table, self.imputer.fit_transform)

    def transform(self, table: pd.DataFrame) -> pd.DataFrame:
        """Complete new rows."""
        return self._fill(table, self.imputer.transform)

    def _fill(self, table: pd.DataFrame, impute: Callable[[Array], Array]) -> pd.DataFrame:
        matrix = self.encoding.encode(table)
        if not self.reference:
            return self.encoding.fill(table, impute(matrix))
        kept = np.setdiff1d(np.arange(matrix.shape[1]), [where.start for where in self.levels])
        matrix[:, kept] = impute(matrix[:, kept])
        for where in self.levels:
            matrix[:, where.start] = 1 - matrix[:, where.start + 1 : where.stop].sum(1)
        return self.encoding.fill(table, matrix)


def nearest_neighbours() -> OnMatrix:
    """Five neighbours, uniform weights: scikit-learn's defaults."""
    return OnMatrix(KNNImputer(keep_empty_features=True))


def bayesian_ridge() -> OnMatrix:
    """MICE's chain of regressions in expectation: scikit-learn's default regressor, ten rounds."""
    return OnMatrix(IterativeImputer(random_state=0, keep_empty_features=True), reference=True)
