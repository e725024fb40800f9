"""Model outputs to values of the caller's own types."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from vsae_fast.table.column import BoolArray, Column
from vsae_fast.table.encode import Float32Array
from vsae_fast.table.schema import ColumnSchema, Schema
from vsae_fast.table.times import from_seconds

INT64 = (-(2**63), 2**63 - 1)


def decode(schema: Schema, columns: list[Column], missing: BoolArray, expected: Float32Array) -> list[npt.NDArray[Any]]:
    """Values for the missing cells of every column.

    Parameters
    ----------
    schema : Schema
    columns : list of Column
        Of the table that is completed: their storage decides what a value looks like.
    missing : numpy.ndarray of bool, shape (N, columns)
    expected : numpy.ndarray of float32, shape (N, D)
        Standardised means and class probabilities; numbers are held inside the column's observed range.

    Returns
    -------
    list of numpy.ndarray
        One array per column of the table, a value for each of its missing cells in the order of rows: float64, int64,
        uint64, bool, datetime64, timedelta64 or objects; of shape (cells, *shape) for blocks.
    """
    fills = []
    start = 0
    for j, description in enumerate(schema.columns):
        where = missing[:, j]
        values: npt.NDArray[Any]
        if description.kind == "block":
            block = None
            if description.role == "modelled":
                block = expected[where, start : start + description.width]
                start += description.width
            fills.append(_block(columns[j], description, int(where.sum()), block))
            continue
        if description.role != "modelled":
            values = np.empty(int(where.sum()), dtype=object if isinstance(description.fill, (str, bytes)) else None)
            values[:] = description.fill
            fills.append(as_stored(columns[j], description, values))
            continue
        block = expected[where, start : start + description.width]
        start += description.width
        if description.attribute_kind == "numerical":
            values = block[:, 0].astype(np.float64) * description.std + description.mean
            if description.low is not None or description.high is not None:
                values = np.clip(values, description.low, description.high)
        else:
            levels = np.empty(description.width, dtype=object)
            levels[:] = description.levels
            values = levels[block.argmax(axis=1)]
        fills.append(as_stored(columns[j], description, values))
    return fills


def _block(column: Column, description: ColumnSchema, n_rows: int, expected: Float32Array | None) -> npt.NDArray[Any]:
    """Blocks of numbers, shape (n_rows, *shape), from standardised values; the mean where it is not modelled."""
    centre = np.asarray(description.centre)
    if expected is None:
        values = np.tile(centre, (n_rows, 1))
    else:
        values = expected.astype(np.float64) * description.std + centre
        if description.low is not None or description.high is not None:
            values = np.clip(values, description.low, description.high)
    if column.storage == "integer":
        values = _rounded(values, _whole_range(description, column.bounds or INT64))
    return values.reshape(n_rows, *description.shape)


def as_stored(column: Column, description: ColumnSchema, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Values as the container's type holds them; where it holds anything, the kind that was found at fit decides."""
    if description.time_kind:
        seconds = values.astype(np.float64)
        times = from_seconds(description.time_kind, seconds, description.step, description.low, description.high)
        cell = description.cell if column.storage == "object" else column.cell  # an object column may hold nothing
        if not cell:
            return times
        return (times.astype("datetime64[D]") if cell == "date" else times).astype(object)
    if column.storage == "boolean" or (column.storage != "float" and description.kind == "boolean"):
        return values.astype(bool)
    if column.storage == "integer":
        return _rounded(values.astype(np.float64), _whole_range(description, column.bounds or INT64))
    if description.kind == "categorical":
        return values.astype(np.float64) if column.storage == "float" else values
    if description.kind == "integer":
        return _rounded(values.astype(np.float64), _whole_range(description, INT64))
    return values.astype(np.float64)


def _whole_range(description: ColumnSchema, bounds: tuple[int, int]) -> tuple[int, int]:
    """Integers that both the column's type and its limits allow."""
    low, high = bounds
    if description.low is not None and description.low > low:
        low = min(math.ceil(description.low), high)
    if description.high is not None and description.high < high:
        high = max(math.floor(description.high), low)
    return low, high


def _rounded(values: npt.NDArray[np.float64], bounds: tuple[int, int]) -> npt.NDArray[Any]:
    """Nearest integers, held inside the bounds of the column's type."""
    low, high = bounds
    below = np.nextafter(float(high) + 1, 0)  # a double below 2^63 or 2^64, which themselves would wrap round
    clipped = np.clip(np.rint(values), float(low), below)
    return clipped.astype(np.uint64 if high > 2**63 - 1 else np.int64)
