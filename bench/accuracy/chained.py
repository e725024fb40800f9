"""Chained trees: MissForest (Stekhoven and Buhlmann 2012) and the same with extremely randomised trees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor, RandomForestClassifier, RandomForestRegressor

from bench.accuracy.encoding import Array, Encoding, mean_and_mode

FORESTS = {
    "random forest": (RandomForestRegressor, RandomForestClassifier),
    "extra trees": (ExtraTreesRegressor, ExtraTreesClassifier),
}
LEAF = 5


class ChainedTrees:
    """Each column is predicted from all others by a forest, round after round, until imputations stop settling.

    Regressors for numbers and classifiers for levels, with missForest's settings: 100 trees, the square root of the
    columns at a split, leaves of five numbers or of one level, at most ten rounds, fewest missing cells first; the
    round before the difference grew is kept. New rows pass through the forests of every kept round.
    """

    def __init__(self, kind: str, n_trees: int = 100, max_rounds: int = 10, seed: int = 0) -> None:
        self.kind, self.n_trees, self.max_rounds, self.seed = kind, n_trees, max_rounds, seed

    def fit_transform(self, table: pd.DataFrame) -> pd.DataFrame:
        """Train on an incomplete table and complete it."""
        self.encoding = Encoding(table)
        self.start = mean_and_mode(table)
        self.order = table.isna().sum().sort_values(kind="stable").index
        self.rounds: list[dict[Any, Any]] = []
        current, before = table.fillna(self.start), (np.inf, np.inf)
        for _ in range(self.max_rounds):
            matrix, forests = self.encoding.encode(current), {}
            for name in self.order:
                where = self._columns(name)
                missing = table[name].isna().to_numpy()
                inputs = np.delete(matrix, np.r_[where], axis=1)
                target = table[name].to_numpy()[~missing]
                number = name in self.encoding.numbers
                forest = FORESTS[self.kind][0 if number else 1](
                    n_estimators=self.n_trees,
                    max_features="sqrt",
                    min_samples_leaf=LEAF if number else 1,
                    n_jobs=torch.get_num_threads(),
                    random_state=self.seed,
                )
                forests[name] = forest.fit(inputs[~missing], target.astype(float if number else str))
                if missing.any():
                    self._predict(name, forests[name], inputs, missing, matrix)
            latest = self.encoding.fill(table, matrix)
            difference = self._difference(latest, current)
            present = (bool(self.encoding.numbers), bool(self.encoding.levels))
            if all(difference[kind] >= before[kind] for kind in (0, 1) if present[kind]):
                break
            current, before = latest, difference
            self.rounds.append(forests)
        return current

    def transform(self, table: pd.DataFrame) -> pd.DataFrame:
        """Complete new rows."""
        matrix = self.encoding.encode(table.fillna(self.start))
        for forests in self.rounds:
            for name in self.order:
                missing = table[name].isna().to_numpy()
                if missing.any():
                    inputs = np.delete(matrix, np.r_[self._columns(name)], axis=1)
                    self._predict(name, forests[name], inputs, missing, matrix)
        return self.encoding.fill(table, matrix)

    def _columns(self, name: Any) -> slice:
        return self.encoding.columns[self.encoding.names.index(name)]

    def _predict(self, name: Any, forest: Any, inputs: Array, missing: Any, matrix: Array) -> None:
        guess = forest.predict(inputs[missing])
        if name in self.encoding.numbers:
            centre, width = self.encoding.numbers[name]
            matrix[missing, self._columns(name).start] = (guess - centre) / width
        else:
            matrix[missing, self._columns(name)] = guess[:, None] == np.array(self.encoding.levels[name])

    def _difference(self, new: pd.DataFrame, old: pd.DataFrame) -> tuple[float, float]:
        """Relative squared change of numbers and share of changed levels; zero where there are none."""
        numbers, levels = list(self.encoding.numbers), list(self.encoding.levels)
        a, b = new[numbers].to_numpy(float), old[numbers].to_numpy(float)
        changed = float(((a - b) ** 2).sum() / ((a**2).sum() or 1.0))
        return changed, float((new[levels].to_numpy() != old[levels].to_numpy()).sum())
