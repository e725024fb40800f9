"""Dicts of arrays: an attribute may be a block of columns, such as an image, that is observed whole or not at all."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vsae_fast.pairing import check_paired
from vsae_fast.table.column import BoolArray, Column
from vsae_fast.table.containers import read_table
from vsae_fast.table.protocols import Table, Writer


class BlockTable:
    """One attribute of two or more dimensions, rows along the first axis, as a table of one column."""

    def __init__(self, name: Hashable, values: Any) -> None:
        self.name = name
        self._given = values
        array = _on_host(values)
        if array.dtype.kind not in "fiub":
            raise ValueError(
                f"attribute {name!r} has shape {array.shape} and holds {array.dtype}; blocks hold numbers, and "
                "attributes of text have one value per row"
            )
        self._array = array
        self.names: list[Hashable] = [name]
        self.shape = (len(array), 1)

    def columns(self) -> list[Column]:
        array = self._array
        flat = array.reshape(len(array), -1)
        shape = tuple(array.shape[1:])
        if array.dtype.kind != "f":
            none = np.zeros(len(array), dtype=bool)
            info = np.iinfo(array.dtype) if array.dtype.kind in "iu" else None
            bounds = (0, 1) if info is None else (int(info.min), int(info.max))
            return [Column(self.name, "integer", flat, none, bounds, block=shape)]
        gone = np.isnan(flat)
        missing: BoolArray = gone.all(axis=1)
        partly = gone.any(axis=1) & ~missing
        if partly.any():
            row = int(np.flatnonzero(partly)[0])
            raise ValueError(
                f"attribute {self.name!r} holds both numbers and NaN in {int(partly.sum())} row(s), the first in this "
                f"part being {row}; a block is observed whole or not at all: make it all NaN, or separate attributes"
            )
        return [Column(self.name, "float", flat, missing, block=shape)]

    def rows(self, start: int, stop: int) -> BlockTable:
        return BlockTable(self.name, self._given[start:stop])

    def writer(self) -> Writer:
        return _BlockWriter(self._given, self._array)

    def with_missing(self, hidden: BoolArray) -> Any:
        array = self._array
        result = array.astype(np.result_type(array.dtype, np.float16))  # integers have no nan
        result[hidden[:, 0]] = np.nan
        if not _is_tensor(self._given):
            return result
        import torch

        made = torch.from_numpy(result).to(self._given.device)
        return made.to(self._given.dtype) if self._given.is_floating_point() else made


class _BlockWriter:
    """Writes whole blocks into a copy."""

    def __init__(self, given: Any, array: npt.NDArray[Any]) -> None:
        self._given, self._result = given, array.copy()

    def write(self, start: int, missing: BoolArray, fills: Sequence[npt.NDArray[Any]]) -> None:
        self._result[start + np.flatnonzero(missing[:, 0])] = fills[0]

    def result(self) -> Any:
        if not _is_tensor(self._given):
            return self._result
        import torch

        return torch.from_numpy(self._result).to(self._given)


def _is_tensor(values: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(values, torch.Tensor)


def _on_host(values: Any) -> npt.NDArray[Any]:
    """Array of the values; NumPy has no bfloat16, and float32 holds every half-precision value exactly."""
    if not _is_tensor(values):
        return np.asarray(values)
    host = values.detach().cpu()
    array: npt.NDArray[Any] = (host.float() if host.is_floating_point() and host.itemsize < 4 else host).numpy()
    return array


class AttributesTable:
    """A dict of attributes: one-dimensional ones are columns as in any table, the others are blocks.

    Parameters
    ----------
    attributes : mapping of name to array, tensor or sequence
        Rows along the first axis, as many in each.

    Raises
    ------
    ValueError
        No attributes, no rows, attributes of different lengths, or one that cannot be imputed.
    """

    def __init__(self, attributes: Mapping[Hashable, Any]) -> None:
        if not attributes:
            raise ValueError("X has 0 feature(s) (an empty dict) while a minimum of 1 is required.")
        self._given = dict(attributes)
        self.names: list[Hashable] = list(attributes)
        n_rows = check_paired({name: _n_rows(name, values) for name, values in attributes.items()})
        self._parts: list[Table] = [_part(name, values) for name, values in attributes.items()]
        self.shape = (n_rows, len(self.names))

    def columns(self) -> list[Column]:
        return [replace(part.columns()[0], name=name) for name, part in zip(self.names, self._parts, strict=True)]

    def rows(self, start: int, stop: int) -> AttributesTable:
        return AttributesTable({name: values[start:stop] for name, values in self._given.items()})

    def writer(self) -> Writer:
        return _AttributesWriter(self.names, [part.writer() for part in self._parts], self._parts)

    def with_missing(self, hidden: BoolArray) -> Any:
        return {
            name: _column_shape(part.with_missing(hidden[:, [j]]), part)
            for j, (name, part) in enumerate(zip(self.names, self._parts, strict=True))
        }


class _AttributesWriter:
    """Writes into a copy of each attribute."""

    def __init__(self, names: list[Hashable], writers: list[Writer], parts: list[Table]) -> None:
        self._names, self._writers, self._parts = names, writers, parts

    def write(self, start: int, missing: BoolArray, fills: Sequence[npt.NDArray[Any]]) -> None:
        for j, writer in enumerate(self._writers):
            writer.write(start, missing[:, [j]], [fills[j]])

    def result(self) -> Any:
        parts = zip(self._names, self._writers, self._parts, strict=True)
        return {name: _column_shape(writer.result(), part) for name, writer, part in parts}


def _column_shape(values: Any, part: Table) -> Any:
    """Attribute in its own shape: plain columns stood in tables of one column."""
    return values if isinstance(part, BlockTable) else values.reshape(-1)


def _no_array(name: Hashable, values: Any) -> ValueError:
    return ValueError(f"attribute {name!r} is a {type(values).__name__}; pass an array of one row per case")


def _n_rows(name: Hashable, values: Any) -> int:
    if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__len__"):
        raise _no_array(name, values)
    return len(values)


def _part(name: Hashable, values: Any) -> Table:
    is_tensor = _is_tensor(values)
    if is_tensor and values.is_complex():
        raise ValueError(f"attribute {name!r} holds complex numbers; pass real and imaginary parts as attributes")
    if not is_tensor:
        values = _as_array(name, values)
    if values.ndim == 1:
        try:
            return read_table(values.reshape(-1, 1))
        except (ValueError, TypeError) as error:
            raise type(error)(f"attribute {name!r}: {error}") from error
    if 0 in values.shape:
        raise ValueError(f"attribute {name!r} has shape {tuple(values.shape)}, which holds nothing; leave it out")
    return BlockTable(name, values)


def _as_array(name: Hashable, values: Any) -> npt.NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"attribute {name!r} is ragged: its rows differ in shape; give every row the same") from error
    if array.dtype.kind in "US" and not isinstance(values, np.ndarray):
        array = np.asarray(values, dtype=object)  # ["a", 1.5] must not turn its number into text
    if array.ndim == 0:
        raise _no_array(name, values)
    return array
