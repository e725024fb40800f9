"""Model outputs to values of the caller's own types."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vsae_fast.table.column import BoolArray, Column
from vsae_fast.table.encode import Float32Array
from vsae_fast.table.schema import ColumnSchema, Schema


def decode(
    schema: Schema, columns: list[Column], observed: BoolArray, expected: Float32Array
) -> list[tuple[BoolArray, list[Any]]]:
    """Values for the unobserved cells of every column.

    Parameters
    ----------
    schema : Schema
    columns : list of Column
        Of the table that is completed: their storage decides what a value looks like.
    observed : numpy.ndarray of bool, shape (N, columns)
    expected : numpy.ndarray of float32, shape (N, D)
        Standardised means and class probabilities.

    Returns
    -------
    list of (where, values)
        One pair per column of the table: the cells to fill and one value for each.
    """
    fills = []
    start = 0
    for j, description in enumerate(schema.columns):
        where = ~observed[:, j]
        if description.role != "modelled":
            fill = _as_stored(columns[j], description, np.array([description.fill], dtype=object))[0]
            fills.append((where, [fill] * int(where.sum())))
            continue
        block = expected[where, start : start + description.width]
        start += description.width
        if description.attribute_kind == "numerical":
            values: npt.NDArray[Any] = block[:, 0].astype(np.float64) * description.std + description.mean
        else:
            levels = np.empty(description.width, dtype=object)
            levels[:] = description.levels
            values = levels[block.argmax(axis=1)]
        fills.append((where, _as_stored(columns[j], description, values)))
    return fills


def _as_stored(column: Column, description: ColumnSchema, values: npt.NDArray[Any]) -> list[Any]:
    if column.values.dtype == object or description.kind == "categorical":
        if description.kind == "boolean":
            return [bool(v) for v in values]
        if column.storage == "integer":
            return [int(v) for v in values]
        return list(values.tolist())
    if column.storage == "boolean":
        return [bool(v) for v in values]
    if column.storage == "integer" or description.kind == "integer":
        low, high = column.bounds or (-(2**63), 2**63 - 1)
        return [min(max(round(float(v)), low), high) for v in values]
    return [float(v) for v in values]
