"""Errors of an imputation on the hidden cells; a mask is 1 where a cell was observed."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np

from vsae_fast.table.column import BoolArray, Column, FloatArray
from vsae_fast.table.containers import read_table
from vsae_fast.table.mask import read_mask
from vsae_fast.table.schema import column_position, detect_kind

Normalization = Literal["std", "range", "rms"]
Columns = Sequence[Hashable] | None
NUMBERS = ("numerical", "integer", "datetime", "duration", "block")


def nrmse(
    X_true: Any, X_imputed: Any, mask: Any, *, normalize: Normalization = "std", columns: Columns = None
) -> float:
    """Normalised root mean squared error of the hidden cells of numbers and times.

    Parameters
    ----------
    X_true, X_imputed : table, shape (N, columns)
        Cells that are missing in ``X_true`` are not scored.
    mask : array or frame of bool or 0/1, shape (N, columns)
        1 = observed; only cells with 0 are scored.
    normalize : {"std", "range", "rms"}
        ``"std"``, ``"range"``: root mean squared error of each column over the standard deviation or range of its true
        values, averaged over columns. ``"rms"``: root of the summed squared error over the summed squared truth, all
        hidden cells pooled, after every column was brought to [0, 1] by its true range.
    columns : sequence of names or positions, optional
        Columns to score; the numerical and integer ones and blocks of numbers where it is left out. A block counts as
        one column of many values.

    Returns
    -------
    float
        nan where no such cell is hidden. Columns with a single true value are left out.

    Examples
    --------
    >>> truth, mask = np.array([[1.0], [3.0]]), np.array([[1], [0]])
    >>> nrmse(truth, np.array([[1.0], [2.0]]), mask)
    1.0
    """
    if normalize not in get_args(Normalization):
        raise ValueError(f"unknown normalize {normalize!r}; use one of {get_args(Normalization)}")
    ratios, error_total, truth_total = [], 0.0, 0.0
    for truth, known, guess in _numerical(X_true, X_imputed, mask, columns):
        low, high = known.min(), known.max()
        if low == high:
            continue
        error = guess - truth
        if normalize == "rms":
            error_total += float((((error) / (high - low)) ** 2).sum())
            truth_total += float((((truth - low) / (high - low)) ** 2).sum())
        else:
            ratios.append(float(np.sqrt((error**2).mean()) / (known.std() if normalize == "std" else high - low)))
    if normalize == "rms":
        return float(np.sqrt(error_total / truth_total)) if truth_total else float("nan")
    return float(np.mean(ratios)) if ratios else float("nan")


def mse(X_true: Any, X_imputed: Any, mask: Any, *, columns: Columns = None) -> float:
    """Mean squared error of the hidden numerical cells, all columns pooled, in the data's own units.

    Parameters and handling of missing truth as in :func:`nrmse`; nan where no such cell is hidden.
    """
    errors = [guess - truth for truth, _, guess in _numerical(X_true, X_imputed, mask, columns)]
    return float((np.concatenate([error.ravel() for error in errors]) ** 2).mean()) if errors else float("nan")


def pfc(X_true: Any, X_imputed: Any, mask: Any, *, columns: Columns = None) -> float:
    """Proportion of falsely classified entries: share of the hidden categorical cells with a wrong level.

    Parameters
    ----------
    X_true, X_imputed : table, shape (N, columns)
        Cells that are missing in ``X_true`` are not scored.
    mask : array or frame of bool or 0/1, shape (N, columns)
        1 = observed; only cells with 0 are scored.
    columns : sequence of names or positions, optional
        Columns to score; the categorical and boolean ones where it is left out.

    Returns
    -------
    float
        nan where no such cell is hidden.

    Examples
    --------
    >>> truth = np.array([["a"], ["b"], ["b"]], dtype=object)
    >>> pfc(truth, np.array([["a"], ["b"], ["a"]], dtype=object), np.array([[1], [0], [0]]))
    0.5
    """
    wrong = total = 0
    for column, other, hidden in _pairs(X_true, X_imputed, mask, columns, ("categorical", "boolean")):
        wrong += sum(
            bool(a != b) for a, b in zip(column.values[hidden].tolist(), other.values[hidden].tolist(), strict=True)
        )
        total += int(hidden.sum())
    return wrong / total if total else float("nan")


def _pairs(
    X_true: Any, X_imputed: Any, mask: Any, columns: Columns, kinds: tuple[str, ...]
) -> Iterator[tuple[Column, Column, BoolArray]]:
    """True column, imputed column and hidden cells with known truth, for each column to score."""
    truth, guess = read_table(X_true), read_table(X_imputed)
    if truth.shape != guess.shape:
        raise ValueError(f"X_true has shape {truth.shape}, but X_imputed has shape {guess.shape}")
    hidden = ~read_mask(truth, mask)
    chosen = None if columns is None else {column_position(truth.names, key) for key in columns}
    for j, (column, other) in enumerate(zip(truth.columns(), guess.columns(), strict=True)):
        if chosen is None and detect_kind(column, column.values[~column.missing]) not in kinds:
            continue
        if chosen is not None and j not in chosen:
            continue
        where = hidden[:, j] & ~column.missing
        left = int((where & other.missing).sum())
        if left:
            raise ValueError(f"X_imputed still misses {left} of the cells to score in column {column.name!r}")
        yield column, other, where


def _numerical(
    X_true: Any, X_imputed: Any, mask: Any, columns: Columns
) -> Iterator[tuple[FloatArray, FloatArray, FloatArray]]:
    """True hidden values, all known values and imputed values of each scored column."""
    for column, other, hidden in _pairs(X_true, X_imputed, mask, columns, NUMBERS):
        if hidden.any():
            if column.block != other.block:
                raise ValueError(
                    f"attribute {column.name!r} has rows of shape {column.block} in X_true, {other.block} in X_imputed"
                )
            if column.values.dtype == object or other.values.dtype == object:
                raise ValueError(f"column {column.name!r} holds text; score it with pfc")
            parts = column.values[hidden], column.values[~column.missing], other.values[hidden]
            truth, known, guess = (part.astype(np.float64, copy=False) for part in parts)
            yield truth, known, guess
