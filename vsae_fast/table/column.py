"""One column of a table, free of the container that it came from."""

from __future__ import annotations

import datetime
import math
import numbers
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vsae_fast.table.times import PYTHON_TYPES, TIME_DTYPES, PythonTime, TimeKind, to_seconds

StorageKind = Literal["float", "integer", "boolean", "category", "object", "datetime", "duration"]

TIMES = sum(PYTHON_TYPES.values(), ())
CONVERSIONS = {  # of cells that are neither, by the name of their type
    "Decimal": "; convert it with .astype(float)",
    "time": "; turn it into numbers, for example hours",
    "Interval": "; convert it with .astype('category')",
    "Period": "; convert it with .astype('category'), or to timestamps",
}
NULL_TYPES = ("NAType", "NaTType")  # by name: pandas need not be installed

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]


@dataclass
class Column:
    """Values of one column as read from a container.

    Parameters
    ----------
    name : hashable
    storage : {"float", "integer", "boolean", "category", "object", "datetime", "duration"}
        How the container holds it; decides what a filled cell looks like.
    values : numpy.ndarray, shape (N,), or (N, width) of a block
        float64 for numbers, booleans and times (in seconds), objects otherwise; blocks keep their dtype. Arbitrary
        where missing. To be read only: it may be the caller's own memory.
    missing : numpy.ndarray of bool, shape (N,)
    bounds : tuple of int, optional
        Range of an integer type.
    declared : tuple
        Levels that a categorical type lists, whether they occur or not.
    whole : bool
        Whether Python objects that were read as numbers are all integers.
    cell : {"date", "datetime", "timedelta", ""}
        Type of times that are Python's own objects.
    block : tuple of int
        Shape of each row of a block of numbers; empty for a column.
    """

    name: Hashable
    storage: StorageKind
    values: npt.NDArray[Any]
    missing: BoolArray
    bounds: tuple[int, int] | None = None
    declared: tuple[Any, ...] = ()
    whole: bool = False
    cell: PythonTime = ""
    block: tuple[int, ...] = ()

    def rows(self, start: int, stop: int) -> Column:
        """Return some rows, without a copy."""
        return replace(self, values=self.values[start:stop], missing=self.missing[start:stop])


def from_objects(
    name: Hashable, objects: npt.NDArray[Any], storage: StorageKind = "object", missing: BoolArray | None = None
) -> Column:
    """Column of Python objects; numbers, booleans and times without exception are read as such.

    Parameters
    ----------
    name : hashable
    objects : numpy.ndarray of objects, shape (N,)
    storage : str
    missing : numpy.ndarray of bool, shape (N,), optional
        Where the container has said already which cells are missing; None, nan, ``pandas.NA`` and ``NaT`` otherwise.

    Raises
    ------
    TypeError
        A cell that is neither a number, a boolean nor a string, unless all are dates, datetimes without a time zone, or
        durations.
    """
    missing = _missing(objects.tolist()) if missing is None else missing
    known = objects[~missing].tolist()
    kinds = dict.fromkeys(map(type, known))  # a handful, whatever the number of cells
    for kind_of_time, types in PYTHON_TYPES.items():
        if kinds and storage == "object" and all(issubclass(kind, types) for kind in kinds):
            return _times_from_objects(name, objects, missing, kind_of_time)
    for kind in kinds:
        if issubclass(kind, (complex, np.complexfloating)):
            value = next(value for value in known if type(value) is kind)
            raise ValueError(f"Complex data not supported: column {name!r} holds {value!r}; split it into real columns")
        is_time = issubclass(kind, TIMES)  # np.timedelta64 is a number, too
        if is_time or not issubclass(kind, (str, bytes, bool, np.bool_, numbers.Real)):
            remedy = ", or times in all; convert it, for example with pandas.to_datetime" if is_time else ""
            remedy = CONVERSIONS.get(kind.__name__, remedy)
            held = f"column {name!r} holds {_with_article(kind.__name__)}"
            raise TypeError(f"{held}; argument must be a string or a number in every cell{remedy}")
    if known and all(issubclass(kind, numbers.Real) and not issubclass(kind, (bool, np.bool_)) for kind in kinds):
        values = np.full(len(objects), math.nan)
        values[~missing] = [float(value) for value in known]
        return Column(name, storage, values, missing, whole=all(issubclass(kind, numbers.Integral) for kind in kinds))
    return Column(name, storage, objects, missing)


def _times_from_objects(name: Hashable, objects: npt.NDArray[Any], missing: BoolArray, kind: TimeKind) -> Column:
    known = objects[~missing].tolist()
    if any(getattr(value, "tzinfo", None) is not None for value in known):
        raise TypeError(
            f"column {name!r} holds objects with time zones; convert it with pandas.to_datetime(..., utc=True)"
        )
    values = np.zeros(len(objects))
    values[~missing] = to_seconds(np.array(known, dtype=TIME_DTYPES[kind]))[0]
    cell: PythonTime = "timedelta"
    if kind == "datetime":
        cell = "date" if all(type(value) is datetime.date for value in known) else "datetime"
    return Column(name, kind, values, missing, cell=cell)


def time_column(name: Hashable, times: npt.NDArray[Any]) -> Column:
    """Column of datetimes or durations."""
    seconds, missing = to_seconds(times)
    return Column(name, "datetime" if times.dtype.kind == "M" else "duration", seconds, missing)


def object_array(objects: list[Any]) -> npt.NDArray[Any]:
    """One-dimensional array of objects, whatever they are: NumPy would take lists of them for further dimensions."""
    values = np.empty(len(objects), dtype=object)
    values[:] = objects
    return values


def _missing(objects: list[Any]) -> BoolArray:
    """None, nan of any float type, ``pandas.NA`` and ``NaT``; a cell's type is looked at once."""
    kinds = set(map(type, objects))
    none = {kind for kind in kinds if kind is type(None) or kind.__name__ in NULL_TYPES}
    floating = {kind for kind in kinds if issubclass(kind, (float, np.floating))}
    found = [type(value) in none or (type(value) in floating and value != value) for value in objects]
    return np.array(found, dtype=bool)


def from_strings(name: Hashable, strings: list[Any], missing: BoolArray, storage: StorageKind = "object") -> Column:
    """Column of a text type, whose cells need not be looked at one by one; anything where missing."""
    values = object_array(strings)
    values[missing] = None
    return Column(name, storage, values, missing)


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def level_key(value: Any) -> tuple[str, Any]:
    """Sort key that works for levels of mixed types."""
    if isinstance(value, (bool, np.bool_)):
        return ("0", bool(value))
    if isinstance(value, numbers.Real):
        return ("1", float(value))
    return (type(value).__name__, value)
