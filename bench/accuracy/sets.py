"""The arena's tables: UCI sets from a folder, and scikit-learn's bundled ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn import datasets as bundled

from vsae_fast import datasets

UCI = (
    "heart_cleveland", "heart_statlog", "phishing", "yeast", "white_wine", "mushroom", "phishing_websites",
)  # fmt: skip
# Of scikit-learn's, linnerud has twenty rows and digits 64 columns, whose chained trees alone would take the budget.
BUNDLED = ("iris", "wine", "diabetes", "breast_cancer")
SETS = (*BUNDLED, *UCI)
DROPPED = {"yeast": ["class"], "mushroom": ["veil-type"]}  # the class that the bar leaves out, and a constant


def load(name: str, folder: Path | None) -> pd.DataFrame:
    """Table with its column kinds: numbers as float64, levels as text.

    Raises
    ------
    SystemExit
        Unknown name, or a UCI set without the folder that holds it.
    """
    if name in BUNDLED:
        bunch = getattr(bundled, f"load_{name}")(as_frame=True)
        table: pd.DataFrame = bunch.data.astype(float)
        if name == "diabetes":
            return table.assign(target=bunch.target.astype(float))
        return table.assign(target=bunch.target.map(dict(enumerate(map(str, bunch.target_names)))))
    if name not in UCI:
        raise SystemExit(f"unknown set {name!r}; use {', '.join(SETS)}")
    if folder is None:
        raise SystemExit(f"{name} needs --data FOLDER")
    return datasets.fetch_uci(name, folder=folder).drop(columns=DROPPED.get(name, []))


def sample_rows(table: pd.DataFrame, n_rows: int, seed: int) -> pd.DataFrame:
    """At most ``n_rows`` rows, drawn without replacement, in random order."""
    order = np.random.default_rng(seed).permutation(len(table))[:n_rows]
    return table.iloc[order].reset_index(drop=True)
