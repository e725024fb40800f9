"""The methods by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import pandas as pd

import vsae_fast
from bench.accuracy.chained import ChainedTrees
from bench.accuracy.forest_mice import ForestMice
from bench.accuracy.hyper_impute import HyperImpute
from bench.accuracy.linear import MeanAndMode, bayesian_ridge, nearest_neighbours
from bench.accuracy.ranks import UNRANKED
from bench.baselines.gain import Gain
from bench.baselines.miwae import Miwae


class Method(Protocol):
    """An imputer of tables.

    Those that can complete new rows have ``transform(table)``; those that can draw completed tables instead of the
    expected one have ``sample(table, n_imputations)``.
    """

    def fit_transform(self, table: pd.DataFrame) -> pd.DataFrame:
        """Train on an incomplete table and complete it."""


def vsae(preset: str) -> Callable[[], Method]:
    """Our imputer with its defaults."""
    return lambda: vsae_fast.VSAEImputer(preset=preset, random_state=0)


METHODS: dict[str, Callable[[], Method]] = {
    "mean / mode": MeanAndMode,
    "vsae_fast auto": vsae("auto"),
    "chained random forests": lambda: ChainedTrees("random forest"),
    "chained extra trees": lambda: ChainedTrees("extra trees"),
    "chained Bayesian ridge": bayesian_ridge,
    "nearest neighbours": nearest_neighbours,
    "miceforest": ForestMice,
    "GAIN": Gain,
    "MIWAE": Miwae,
    "hyperimpute": HyperImpute,
    "vsae_fast paper": vsae("paper"),
}
# Others are run when they are asked for by name: the paper's preset trains for 1000 epochs whatever the table.
DEFAULT = tuple(name for name in METHODS if name not in (*UNRANKED, "vsae_fast paper"))
