"""Columns to model inputs."""

from __future__ import annotations

import numbers
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vsae_fast.table.column import BoolArray, Column, FloatArray
from vsae_fast.table.schema import TIME_KINDS, ColumnSchema, Schema

Float32Array = npt.NDArray[np.float32]
# Standard deviations from the mean that a number counts as at most: further ones overflow float32 in the end, and a row
# that held one came back with NaN. No column of fit has any, of less than a hundred million rows.
MOST_DEVIATIONS = 1e4
BLOCK_ROWS = 4096  # of a block that are in double precision at once
HandleUnknown = Literal["missing", "error"]


def encode(
    schema: Schema, columns: list[Column], observed: BoolArray
) -> tuple[Float32Array, Float32Array, dict[str, int]]:
    """Standardise numbers and spread levels over one-hot columns.

    Parameters
    ----------
    schema : Schema
    columns : list of Column
    observed : numpy.ndarray of bool, shape (N, columns)

    Returns
    -------
    x : numpy.ndarray of float32, shape (N, D)
        Zero where unobserved.
    mask : numpy.ndarray of float32, shape (N, M)
        1 = observed; a level that the schema does not know counts as unobserved.
    unseen : dict of str to int
        Number of cells with unknown levels, per column that has any.
    """
    widths = [schema.columns[j].width for j in schema.modelled]
    # Ten thousand levels are ten thousand columns: nothing of that size is there twice.
    x = np.zeros((len(observed), sum(widths)), dtype=np.float32)
    masks, unseen, begin = [], {}, 0
    for j, width in zip(schema.modelled, widths, strict=True):
        column, description, known = columns[j], schema.columns[j], observed[:, j]
        if known.any():
            _check_times(column, description)
        if description.attribute_kind == "numerical":
            x[:, begin : begin + width] = _standardised(column, description, known)
        else:
            codes = _codes(column, description, known)
            n_unseen = int((known & (codes < 0)).sum())
            if n_unseen:
                unseen[str(column.name)] = n_unseen
            known = codes >= 0
            x[np.flatnonzero(known), begin + codes[known]] = 1.0
        masks.append(known)
        begin += width
    return x, np.stack(masks, axis=1).astype(np.float32), unseen


def _check_times(column: Column, description: ColumnSchema) -> None:
    """Raise ValueError where only one of the tables at fit and now has times, or times of another kind."""
    now, then = (f"{kind}s" if kind in TIME_KINDS else "no times" for kind in (column.storage, description.kind))
    if now != then:
        raise ValueError(f"column {column.name!r} held {then} at fit and now holds {now}; convert it")


def check_levels(schema: Schema, columns: list[Column], observed: BoolArray) -> None:
    """Raise ValueError where a cell holds a level that was not there at fit."""
    for j in schema.modelled:
        column, description, known = columns[j], schema.columns[j], observed[:, j]
        if description.attribute_kind == "numerical":
            continue
        new = sorted({str(v) for v in column.values[known].tolist()} - {str(v) for v in description.levels})
        if new:
            shown = ", ".join(map(repr, new[:5])) + (", ..." if len(new) > 5 else "")
            raise ValueError(
                f"column {column.name!r} holds levels that were not there at fit: {shown}; "
                "use handle_unknown='missing' or fit on them"
            )


def _standardised(column: Column, description: ColumnSchema, known: BoolArray) -> npt.NDArray[np.floating[Any]]:
    """Numbers with mean 0 and standard deviation 1, shape (N, width); zeros where unobserved, outliers held in."""
    if column.block != description.shape:
        raise ValueError(
            f"attribute {column.name!r} had rows of shape {description.shape} at fit and now has {column.block}; "
            "pass it as it was"
        )
    if not column.block:
        values = _numbers(column, description, known)
        with np.errstate(over="ignore"):
            deviations = (values - description.mean) / description.std
        return np.where(known, deviations.clip(-MOST_DEVIATIONS, MOST_DEVIATIONS), 0.0)[:, None]
    block = np.zeros(column.values.shape, dtype=np.float32)
    centre = np.asarray(description.centre)
    rows = np.flatnonzero(known)
    for start in range(0, len(rows), BLOCK_ROWS):
        some = rows[start : start + BLOCK_ROWS]
        with np.errstate(over="ignore"):
            deviations = (column.values[some] - centre) / description.std
        block[some] = deviations.clip(-MOST_DEVIATIONS, MOST_DEVIATIONS)
    return block


def _numbers(column: Column, description: ColumnSchema, known: BoolArray) -> FloatArray:
    if column.values.dtype == object and known.any():
        raise ValueError(f"column {column.name!r} held numbers at fit and now holds text; convert it to numbers")
    if column.values.dtype == object:
        return np.zeros(len(known))
    return np.where(known, column.values, description.mean)


def _codes(column: Column, description: ColumnSchema, known: BoolArray) -> npt.NDArray[np.int64]:
    """Position of each cell's level, -1 where it is unobserved or unknown."""
    rows = np.flatnonzero(known)
    codes = np.full(len(known), -1, dtype=np.int64)
    values = column.values[rows]
    if values.dtype != object and all(isinstance(level, numbers.Real) for level in description.levels):
        codes[rows] = _positions(np.array(description.levels, dtype=np.float64), values)
    else:
        position = {level: i for i, level in enumerate(description.levels)}
        codes[rows] = [position.get(value, -1) for value in values.tolist()]
    return codes


def _positions(levels: FloatArray, values: FloatArray) -> npt.NDArray[np.int64]:
    """Position of each number among the levels, -1 where it is none of them."""
    order = np.argsort(levels, kind="stable")
    place = order[np.searchsorted(levels, values, sorter=order).clip(max=len(levels) - 1)]
    return np.where(levels[place] == values, place, -1)
