"""Cells of Arrow columns that narwhals does not read or fill: decimals, dictionaries, views of text, dates of 64 bits.

What is not filled keeps its bits, and a dictionary its levels and their order.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


def is_plain(kind: pa.DataType) -> bool:
    """Whether narwhals reads a type and fills it from plain values."""
    types = pa.types
    return not (types.is_decimal(kind) or types.is_dictionary(kind) or types.is_date64(kind) or _is_view(kind))


def readable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Column with the same cells of a type that narwhals reads; dictionaries of other than text or numbers decoded."""
    kind, types = column.type, pa.types
    if types.is_dictionary(kind):
        value = kind.value_type
        levels = (types.is_string, types.is_large_string, types.is_integer, types.is_floating, types.is_boolean)
        return column if any(is_of(value) for is_of in levels) else readable(column.cast(value))
    if types.is_decimal(kind):
        return column.cast(pa.float64())
    if types.is_date64(kind):
        return column.cast(pa.date32())
    return column.cast(pa.large_string()) if _is_view(kind) else column


def can_hold(kind: pa.DataType, values: npt.NDArray[Any]) -> bool:
    """Whether values can be written as a type, to its dictionary if need be."""
    try:
        _typed(values, kind.value_type if pa.types.is_dictionary(kind) else kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return False
    return True


def filled(column: pa.ChunkedArray, rows: npt.NDArray[np.intp], values: npt.NDArray[Any]) -> pa.ChunkedArray:
    """Copy with values in some rows, of the same type."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _filled_dictionary(column, rows, values)
    if _is_view(kind):
        return filled(column.cast(pa.large_string()), rows, values).cast(kind)
    mask = np.zeros(len(column), dtype=bool)
    mask[rows] = True
    cells = pc.replace_with_mask(pa.concat_arrays(column.chunks), pa.array(mask), _typed(values, kind))
    return pa.chunked_array([cells], kind)


def _filled_dictionary(
    column: pa.ChunkedArray, rows: npt.NDArray[np.intp], values: npt.NDArray[Any]
) -> pa.ChunkedArray:
    kind = column.type
    chunks = column.unify_dictionaries().chunks
    levels = chunks[0].dictionary
    known = levels.to_pylist()
    typed = _typed(values, kind.value_type).to_pylist()
    place = {level: i for i, level in enumerate(known)}  # Arrow allows one level several times
    if further := [level for level in dict.fromkeys(typed) if level not in place]:
        place |= {level: i for i, level in enumerate(further, len(known))}
        levels = pa.concat_arrays([levels, pa.array(further, kind.value_type)])
    indices = pa.chunked_array([chunk.indices for chunk in chunks], kind.index_type)
    indices = filled(indices, rows, np.array([place[level] for level in typed], dtype=np.int64))
    whole = [pa.DictionaryArray.from_arrays(part, levels, ordered=kind.ordered) for part in indices.chunks]
    return pa.chunked_array(whole, kind)


def _typed(values: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:
    """Values of a type; decimals are held inside what it can hold."""
    if pa.types.is_decimal(kind):
        largest = float(Decimal(10**kind.precision - 1).scaleb(-kind.scale))
        return pa.array(np.clip(values.astype(np.float64), -largest, largest)).cast(kind)
    if values.dtype.kind in "mM":
        return pa.array(values).cast(kind, safe=False)
    return pa.array(values.tolist()).cast(kind)


def _is_view(kind: pa.DataType) -> bool:
    return hasattr(pa.types, "is_string_view") and bool(pa.types.is_string_view(kind))  # not before Arrow 16
