"""Tables as matrices for the opponents, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

Array = np.ndarray[Any, np.dtype[np.float64]]


def is_number(column: pd.Series) -> bool:
    """Whether a column holds numbers; the arena's levels are text."""
    return bool(pd.api.types.is_float_dtype(column))


class Encoding:
    """Standardised (or min-max scaled) numbers and one-hot levels; missing cells are NaN in all of their columns.

    Parameters
    ----------
    table : pandas.DataFrame
        Incomplete; scaling and levels are read from its observed cells.
    scale : {"standard", "unit"}
    """

    def __init__(self, table: pd.DataFrame, scale: str = "standard") -> None:
        self.names = list(table.columns)
        self.numbers: dict[Any, tuple[float, float]] = {}
        self.levels: dict[Any, list[Any]] = {}
        self.columns: list[slice] = []  # of each attribute
        start = 0
        for name in self.names:
            column = table[name]
            if is_number(column):
                centre = column.mean() if scale == "standard" else column.min()
                width = column.std(ddof=0) if scale == "standard" else column.max() - column.min()
                self.numbers[name] = (float(centre), float(width) or 1.0)
                n_columns = 1
            else:
                self.levels[name] = sorted(column.dropna().unique())
                n_columns = len(self.levels[name])
            self.columns.append(slice(start, start + n_columns))
            start += n_columns
        self.n_columns = start

    def encode(self, table: pd.DataFrame) -> Array:
        """Matrix (N, D)."""
        matrix = np.full((len(table), self.n_columns), np.nan)
        for name, where in zip(self.names, self.columns, strict=True):
            column = table[name]
            if name in self.numbers:
                centre, width = self.numbers[name]
                matrix[:, where.start] = (column - centre) / width
            else:
                known = column.notna().to_numpy()
                values = column.to_numpy(dtype=object)[:, None] == np.array(self.levels[name], dtype=object)
                matrix[known, where] = values[known]
        return matrix

    def fill(self, table: pd.DataFrame, matrix: Array) -> pd.DataFrame:
        """Complete a table from a matrix of expected values: numbers scaled back, levels with the largest value."""
        completed = table.copy()
        for name, where in zip(self.names, self.columns, strict=True):
            missing = table[name].isna().to_numpy()
            if name in self.numbers:
                centre, width = self.numbers[name]
                values = matrix[:, where.start] * width + centre
            else:
                values = np.array(self.levels[name], dtype=object)[matrix[:, where].argmax(1)]
            column = table[name].to_numpy(dtype=float if name in self.numbers else object, copy=True)
            column[missing] = values[missing]
            completed[name] = column
        return completed


class LevelCodes:
    """A matrix with numbers as they are and levels as codes 0, 1, ...; missing cells are NaN.

    Parameters
    ----------
    table : pandas.DataFrame
        Levels are read from its observed cells, in the order in which they come.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self.levels = {
            i: list(table[name].dropna().unique()) for i, name in enumerate(table) if not is_number(table[name])
        }

    def encode(self, table: pd.DataFrame) -> Array:
        """Matrix (N, columns)."""
        matrix = np.empty(table.shape)
        for i, name in enumerate(table):
            if i in self.levels:
                codes = pd.Categorical(table[name], categories=self.levels[i]).codes
                matrix[:, i] = np.where(codes < 0, np.nan, codes)
            else:
                matrix[:, i] = table[name]
        return matrix

    def fill(self, table: pd.DataFrame, matrix: Array) -> pd.DataFrame:
        """Complete a table from a matrix; codes count as the nearest level."""
        completed = table.copy()
        for i, name in enumerate(table):
            values = matrix[:, i]
            if i in self.levels:
                nearest = values.round().clip(0, len(self.levels[i]) - 1).astype(int)
                values = np.array(self.levels[i], dtype=object)[nearest]
            completed[name] = table[name].where(table[name].notna(), pd.Series(values, index=table.index))
        return completed


def mean_and_mode(table: pd.DataFrame) -> dict[Any, Any]:
    """Mean or most frequent level of each column."""
    return {name: column.mean() if is_number(column) else column.mode()[0] for name, column in table.items()}
