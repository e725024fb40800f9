"""Limits of imputed numbers that the caller sets in place of a column's observed range."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vsae_fast.table.schema import ColumnSchema, Schema, column_position
from vsae_fast.table.times import kind_of_value, number_of


def with_bounds(schema: Schema, min_value: Any, max_value: Any) -> Schema:
    """Schema whose numerical and integer columns have the caller's limits.

    Parameters
    ----------
    schema : Schema
    min_value, max_value : number, array-like of shape (columns,), dict of column name or position to number, or None
        A number is for every column of numbers, times are for columns of times (in UTC where they have no zone);
        entries of an array for columns of levels are ignored; None leaves the observed range.

    Raises
    ------
    ValueError
        An array of another length, a column that is not there or not numerical, a limit that is no number or time as
        its column is, or a smallest value above the largest.
    """
    low, high = _per_column(schema, "min_value", min_value), _per_column(schema, "max_value", max_value)
    columns = []
    for j, column in enumerate(schema.columns):
        if column.role == "modelled" and column.attribute_kind == "numerical":
            column = replace(column, low=low.get(j, column.low), high=high.get(j, column.high))
            if column.low is not None and column.high is not None and column.low > column.high:
                raise ValueError(
                    f"column {column.name!r} would have to lie between {column.low} and {column.high}; "
                    "give a min_value below max_value and below the largest observed value"
                )
        columns.append(column)
    return Schema(tuple(columns))


def with_range(
    schema: Schema, ranges: Mapping[str, tuple[float, float]], *, low: bool = True, high: bool = True
) -> Schema:
    """Schema whose numerical columns may take any value of a wider range than was seen at fit.

    Parameters
    ----------
    schema : Schema
    ranges : mapping of column name to least and largest value
    low, high : bool
        Which ends to widen; columns without a limit have none afterwards.
    """
    columns = []
    for column in schema.columns:
        limits = ranges.get(str(column.name))
        if limits is not None and column.role == "modelled" and column.attribute_kind == "numerical":
            if low and column.low is not None:
                column = replace(column, low=min(column.low, limits[0]))
            if high and column.high is not None:
                column = replace(column, high=max(column.high, limits[1]))
        columns.append(column)
    return Schema(tuple(columns))


def without_bounds(schema: Schema, positions: Sequence[int]) -> Schema:
    """Schema whose columns at these positions may take any value: their observed range tells little of the missing."""
    return Schema(
        tuple(
            replace(column, low=None, high=None) if j in positions else column
            for j, column in enumerate(schema.columns)
        )
    )


def _per_column(schema: Schema, argument: str, limit: Any) -> dict[int, float]:
    names = [column.name for column in schema.columns]
    if limit is None:
        return {}
    if isinstance(limit, Mapping):
        limits = {column_position(names, key): value for key, value in limit.items()}
        for j in limits:
            kind = schema.columns[j].kind
            if schema.columns[j].attribute_kind != "numerical":
                raise ValueError(f"{argument} names column {names[j]!r}, which is {kind}; leave it out")
    else:
        array = np.asarray(limit, dtype=object)
        if array.shape not in ((), (len(names),)):
            raise ValueError(f"{argument} has shape {array.shape}; pass a number, {len(names)} of them, or a dict")
        entries = enumerate(np.broadcast_to(array, (len(names),)).tolist())
        limits = {j: value for j, value in entries if schema.columns[j].attribute_kind == "numerical"}
        if array.shape == ():
            limits = _of_its_kind(schema, argument, array.item(), limits)
    return {j: _limit(argument, schema.columns[j], value) for j, value in limits.items()}


def _of_its_kind(schema: Schema, argument: str, value: Any, limits: dict[int, Any]) -> dict[int, Any]:
    """What one limit for all columns means: a number limits no times, a time no numbers."""
    told = kind_of_value(value)
    kept = {j: limit for j, limit in limits.items() if told == schema.columns[j].time_kind}
    if not kept and not isinstance(value, numbers.Real):
        raise ValueError(f"{argument} {value!r} limits no column of this table; pass a number or a dict")
    return kept


def _limit(argument: str, column: ColumnSchema, value: Any) -> float:
    name = column.name
    if column.time_kind:
        try:
            return number_of(column.time_kind, value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{argument} of column {name!r} must be a {column.kind}, got {value!r}") from error
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{argument} of column {name!r} must be a number, got {value!r}") from error
    if np.isnan(number):
        raise ValueError(f"{argument} of column {name!r} must be a number, got nan; use -inf or inf for no limit")
    return number
