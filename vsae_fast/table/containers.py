"""Reading tables of any supported type into columns, and giving the same type back with the holes filled."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import narwhals.stable.v2 as nw
import numpy as np
import numpy.typing as npt

from vsae_fast.table.column import BoolArray, Column, from_objects, from_strings, object_array


class Writer(Protocol):
    """A copy of a table that is completed chunk after chunk of rows."""

    def write(self, start: int, missing: BoolArray, fills: Sequence[npt.NDArray[Any]]) -> None:
        """Write ``fills[j]`` into the missing cells of column j.

        Parameters
        ----------
        start : int
            First row of the chunk.
        missing : numpy.ndarray of bool, shape (rows of the chunk, columns)
        fills : sequence of numpy.ndarray
            A value per missing cell of each column, in the order of rows.
        """

    def result(self) -> Any:
        """Return the completed table."""


class Table(Protocol):
    """A container that can be read column by column and copied with some cells replaced."""

    names: list[Hashable]
    shape: tuple[int, int]

    def columns(self) -> list[Column]:
        """Read every column."""

    def rows(self, start: int, stop: int) -> Table:
        """View of some rows."""

    def writer(self) -> Writer:
        """Copy that takes values for missing cells; the input is not touched."""

    def with_missing(self, hidden: BoolArray) -> Any:
        """Copy with the cells of ``hidden`` (N, columns) missing; the input is not touched."""


def read_table(X: Any) -> Table:
    """Wrap a NumPy array, torch tensor, pandas, polars or Arrow table, nested sequence, or dict of attributes.

    Raises
    ------
    TypeError
        A sparse matrix or an unknown type.
    ValueError
        Not two-dimensional, ragged, complex, without rows or without columns.
    """
    if hasattr(X, "toarray") and hasattr(X, "nnz"):
        raise TypeError("Sparse data was passed for X, but dense data is required; use X.toarray()")
    if hasattr(X, "collect") and hasattr(X, "lazy"):
        raise TypeError(f"X is a {type(X).__name__}, which has no cells yet; pass X.collect()")
    torch = sys.modules.get("torch")
    table: Table
    if isinstance(X, Mapping):
        from vsae_fast.table.blocks import AttributesTable  # which reads its attributes with this function

        table = AttributesTable(X)
    elif torch is not None and isinstance(X, torch.Tensor):
        table = TensorTable(X)
    elif nw.dependencies.is_into_dataframe(X):
        table = FrameTable(X)
    else:
        table = ArrayTable(_as_array(X))
    n_rows, n_columns = table.shape
    if n_columns == 0:
        raise ValueError(f"X has 0 feature(s) (shape=({n_rows}, 0)) while a minimum of 1 is required.")
    if n_rows == 0:
        raise ValueError(f"X has 0 sample(s) (shape=(0, {n_columns})) while a minimum of 1 is required.")
    return table


def _as_array(X: Any) -> npt.NDArray[Any]:
    if isinstance(X, (str, bytes)) or np.isscalar(X):
        raise ValueError(f"Expected 2D array, got a {type(X).__name__} instead; pass a table")
    try:
        array = np.asarray(X)
        if array.dtype.kind in "US" and not isinstance(X, np.ndarray):
            array = np.asarray(X, dtype=object)  # [["a", 1.5]] must not turn its numbers into text
    except ValueError as error:
        raise ValueError("X is ragged: its rows differ in length; give every row the same number of cells") from error
    if array.dtype.kind == "c":
        raise ValueError("Complex data not supported: pass real and imaginary parts as separate columns")
    if array.dtype.kind in "mM":
        raise ValueError("X holds dates or durations; turn them into numbers first, for example days since a start")
    if array.ndim != 2:
        if array.dtype == object and array.ndim == 1 and any(isinstance(row, (list, tuple)) for row in array):
            raise ValueError("X is ragged: its rows differ in length; give every row the same number of cells")
        raise ValueError(
            f"Expected 2D array, got {array.ndim}D array instead. Reshape your data using X.reshape(-1, 1) for one "
            "column or X.reshape(1, -1) for one row."
        )
    if array.dtype.kind not in "fiubOUS":
        raise ValueError(f"X has dtype {array.dtype}, which cannot be imputed; convert it to numbers or objects")
    return array


def _numeric_column(name: Hashable, values: npt.NDArray[Any]) -> Column:
    kind = values.dtype.kind
    if kind == "b":
        return Column(name, "boolean", values.astype(np.float64), np.zeros(len(values), dtype=bool))
    if kind in "iu":
        info = np.iinfo(values.dtype)
        missing = np.zeros(len(values), dtype=bool)
        return Column(name, "integer", values.astype(np.float64), missing, (int(info.min), int(info.max)))
    as_double = values.astype(np.float64)
    return Column(name, "float", as_double, np.isnan(as_double))


class ArrayTable:
    """A two-dimensional NumPy array, numeric or of objects."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.array = array
        self.shape = (array.shape[0], array.shape[1])
        self.names: list[Hashable] = [f"x{j}" for j in range(array.shape[1])]

    def columns(self) -> list[Column]:
        if self.array.dtype.kind in "OUS":
            return [from_objects(name, self.array[:, j].astype(object)) for j, name in enumerate(self.names)]
        return [_numeric_column(name, self.array[:, j]) for j, name in enumerate(self.names)]

    def rows(self, start: int, stop: int) -> ArrayTable:
        return ArrayTable(self.array[start:stop])

    def writer(self) -> ArrayWriter:
        return ArrayWriter(self.array)

    def with_missing(self, hidden: BoolArray) -> npt.NDArray[Any]:
        if self.array.dtype.kind in "OUS":
            result = self.array.astype(object)
            result[hidden] = None
            return result
        result = self.array.astype(np.result_type(self.array.dtype, np.float16))  # integers have no nan
        result[hidden] = np.nan
        return result


class ArrayWriter:
    """Writes into a copy of an array."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        # A fixed-width text array would cut a longer level short.
        self._result: npt.NDArray[Any] = array.astype(object) if array.dtype.kind in "US" else array.copy()
        self._text = array.dtype if array.dtype.kind in "US" else None

    def write(self, start: int, missing: BoolArray, fills: Sequence[npt.NDArray[Any]]) -> None:
        part = self._result[start : start + len(missing)]
        for j, values in enumerate(fills):
            part[missing[:, j], j] = values
        if missing.any():
            self._text = None

    def result(self) -> npt.NDArray[Any]:
        return self._result if self._text is None else self._result.astype(self._text)


class TensorTable:
    """A two-dimensional torch tensor; the result is on the same device."""

    def __init__(self, tensor: Any) -> None:
        if tensor.is_complex():
            raise ValueError("Complex data not supported: pass real and imaginary parts as separate columns")
        if tensor.ndim != 2:
            raise ValueError(f"Expected 2D tensor, got {tensor.ndim}D tensor instead; reshape it to (rows, columns)")
        self.tensor = tensor
        host = tensor.detach().cpu()
        # NumPy has no bfloat16; float32 holds every half-precision value exactly.
        self._array = host.float().numpy() if host.is_floating_point() and host.itemsize < 4 else host.numpy()
        self.shape = (tensor.shape[0], tensor.shape[1])
        self.names: list[Hashable] = [f"x{j}" for j in range(tensor.shape[1])]

    def columns(self) -> list[Column]:
        return [_numeric_column(name, self._array[:, j]) for j, name in enumerate(self.names)]

    def rows(self, start: int, stop: int) -> TensorTable:
        return TensorTable(self.tensor[start:stop])

    def writer(self) -> TensorWriter:
        return TensorWriter(self.tensor)

    def with_missing(self, hidden: BoolArray) -> Any:
        import torch

        floating = self.tensor.detach() if self.tensor.is_floating_point() else self.tensor.detach().double()
        return floating.masked_fill(torch.from_numpy(hidden).to(floating.device), torch.nan)


class TensorWriter:
    """Writes into a copy of a tensor, on its device."""

    def __init__(self, tensor: Any) -> None:
        self._result = tensor.detach().clone()

    def write(self, start: int, missing: BoolArray, fills: Sequence[npt.NDArray[Any]]) -> None:
        import torch

        for j, values in enumerate(fills):
            rows = torch.from_numpy(start + np.flatnonzero(missing[:, j])).to(self._result.device)
            self._result[rows, j] = torch.from_numpy(values).to(self._result)

    def result(self) -> Any:
        return self._result


# Of a data frame, read once: cells are checked first and encoded later, and reading objects takes longer than either.
MOST_CELLS_KEPT = 1 << 21


class FrameTable:
    """A data frame that narwhals can read eagerly: pandas, polars, Arrow and others."""

    def __init__(self, frame: Any) -> None:
        columns = list(getattr(frame, "columns", []))
        if all(isinstance(name, Hashable) for name in columns):
            repeated = sorted(str(name) for name, count in Counter(columns).items() if count > 1)
            if repeated:
                raise ValueError(f"column names must be unique; repeated: {', '.join(repeated)}")
        if len({isinstance(name, str) for name in columns}) > 1:
            raise TypeError("column names mix text and other types; make all text with X.columns.astype(str)")
        self.frame = nw.from_native(frame, eager_only=True)
        self.shape = self.frame.shape
        self.names: list[Hashable] = list(self.frame.columns)
        self._columns: list[Column] | None = None

    def columns(self) -> list[Column]:
        if self._columns is not None:
            return self._columns
        columns = [self._read(name) for name in self.names]
        if self.shape[0] * self.shape[1] <= MOST_CELLS_KEPT:
            self._columns = columns
        return columns

    def _series(self, name: Hashable) -> nw.Series[Any]:
        series: nw.Series[Any] = self.frame.get_column(name)
        return series

    def _read(self, name: Hashable) -> Column:
        series = self._series(name)
        dtype = series.dtype
        null = series.is_null()
        missing: BoolArray = null.to_numpy().astype(bool)
        if dtype.is_numeric():
            filled = series.fill_null(0) if missing.any() else series
            values = filled.cast(nw.Float64).to_numpy().astype(np.float64)
            if dtype.is_integer():
                return Column(name, "integer", values, missing, integer_bounds(dtype))
            return Column(name, "float", values, missing | np.isnan(values))
        if dtype == nw.Boolean:
            cells = series.to_list()
            values = np.array([bool(v) if not gone else False for v, gone in zip(cells, missing, strict=True)])
            return Column(name, "boolean", values.astype(np.float64), missing)
        if isinstance(dtype, (nw.Categorical, nw.Enum)):
            declared = tuple(series.cat.get_categories().to_list())
            if all(isinstance(level, str) for level in declared):
                return replace(from_strings(name, series.to_list(), missing, "category"), declared=declared)
            objects = object_array(_masked(series.to_list(), missing))
            return replace(from_objects(name, objects, "category"), declared=declared)
        # Of pandas' columns of objects narwhals looks at the first hundred cells alone.
        if isinstance(dtype, nw.String) and not isinstance(getattr(series.to_native(), "dtype", None), np.dtype):
            return from_strings(name, series.to_list(), missing)
        if isinstance(dtype, (nw.String, nw.Object)):
            if self.frame.implementation.is_pandas():  # which has told nan and the like among objects from the rest
                return from_objects(name, series.to_native().to_numpy(), missing=missing)
            return from_objects(name, object_array(_masked(series.to_list(), missing)))
        if missing.all():
            return Column(name, "object", np.full(len(missing), np.nan), missing)
        if dtype.is_temporal():
            raise ValueError(
                f"column {name!r} holds {dtype}; turn it into numbers first, for example days since a start date"
            )
        if "complex" in str(getattr(series.to_native(), "dtype", "")):
            raise ValueError(f"Complex data not supported: column {name!r}; split it into real columns")
        raise ValueError(f"column {name!r} has type {dtype}, which cannot be imputed; convert or drop it")

    def rows(self, start: int, stop: int) -> FrameTable:
        if start <= 0 and stop >= self.shape[0]:
            return self
        part = FrameTable(self.frame[start:stop].to_native())
        if self._columns is not None:
            part._columns = [column.rows(start, stop) for column in self._columns]
        return part

    def writer(self) -> FrameWriter:
        return FrameWriter(self)

    def completed(self, missing: BoolArray, fills: Sequence[npt.NDArray[Any]]) -> Any:
        """Copy with ``fills[j]`` in the missing cells (N, columns) of column j."""
        changed: list[nw.Series[Any]] = []
        retyped: set[Hashable] = set()
        backend = self.frame.implementation
        for j, (name, values) in enumerate(zip(self.names, fills, strict=True)):
            if not len(values):
                continue
            series = self._series(name)
            if len(values) == len(series):  # no observed cell: an untyped or level-less column takes its fill's type
                whole = nw.new_series(str(name), values.tolist(), backend=backend)
                if series.dtype == nw.Unknown or not _can_hold(series, values):
                    changed.append(whole)
                    retyped.add(name)
                    continue
            changed.append(_filled(series, np.flatnonzero(missing[:, j]), values))
        if not changed:
            return self.frame.clone().to_native()
        result = self.frame.with_columns(*changed).to_native()
        return _as_before(result, self.frame.to_native(), retyped) if backend.is_pyarrow() else result

    def with_missing(self, hidden: BoolArray) -> Any:
        if self.frame.implementation.is_pandas_like():
            result = self.frame.to_native().copy()
            for j, name in enumerate(self.names):
                if not hidden[:, j].any():
                    continue
                column = result[name]
                nullable = {"b": "boolean", "i": "Int64", "u": "UInt64"}.get(getattr(column.dtype, "kind", ""))
                if nullable is not None and isinstance(column.dtype, np.dtype):
                    column = column.astype(nullable)  # else pandas would turn it into floats or objects
                result[name] = column.mask(hidden[:, j])
            return result
        changed = []
        for j, name in enumerate(self.names):
            seen = nw.new_series("observed", (~hidden[:, j]).tolist(), nw.Boolean(), backend=self.frame.implementation)
            changed.append(nw.when(seen).then(self._series(name)).alias(str(name)))
        return self.frame.with_columns(*changed).to_native()


class FrameWriter:
    """Collects values and writes them column by column: data frames are stored by columns."""

    def __init__(self, table: FrameTable) -> None:
        self._table = table
        self._missing: list[BoolArray] = []
        self._fills: list[Sequence[npt.NDArray[Any]]] = []

    def write(self, start: int, missing: BoolArray, fills: Sequence[npt.NDArray[Any]]) -> None:
        del start  # chunks come in order
        self._missing.append(missing)
        self._fills.append(fills)

    def result(self) -> Any:
        fills = [np.concatenate(column) for column in zip(*self._fills, strict=True)]
        return self._table.completed(np.concatenate(self._missing), fills)


def _filled(series: nw.Series[Any], rows: npt.NDArray[np.intp], values: npt.NDArray[Any]) -> nw.Series[Any]:
    """Copy of a series with values in some rows, of the same type."""
    backend = series.implementation
    # pandas takes text and levels as they are; numbers must have the column's own width everywhere.
    plain = backend.is_pandas_like() and not series.dtype.is_numeric()
    of_numpy = isinstance(getattr(series.to_native(), "dtype", None), np.dtype)
    if backend.is_pandas() and (plain or of_numpy):
        native = series.to_native().copy()
        native.iloc[rows] = values if plain else values.astype(native.dtype)
        return nw.from_native(native, series_only=True)
    if backend.is_polars() and series.dtype == nw.Object:  # into which polars cannot write
        cells = object_array(series.to_list())
        cells[rows] = values
        return nw.new_series(series.name, cells.tolist(), nw.Object(), backend=backend)
    typed = nw.new_series(series.name, values.tolist(), None if plain else series.dtype, backend=backend)
    return series.scatter(rows.tolist(), typed)


def _as_before(result: Any, before: Any, retyped: set[Hashable]) -> Any:
    """Arrow table with the fields and metadata that it had: several of Arrow's types are one to narwhals."""
    schema = before.schema
    for position, field in enumerate(result.schema):
        if field.name in retyped:
            schema = schema.set(position, field)
    return result if result.schema.equals(schema, check_metadata=True) else result.cast(schema)


def _masked(objects: list[Any], missing: BoolArray) -> list[Any]:
    return [None if gone else value for value, gone in zip(objects, missing, strict=True)]


def _can_hold(series: nw.Series[Any], values: npt.NDArray[Any]) -> bool:
    if not isinstance(series.dtype, (nw.Categorical, nw.Enum)):
        return True
    return set(values.tolist()) <= set(series.cat.get_categories().to_list())


def integer_bounds(dtype: nw.dtypes.DType) -> tuple[int, int]:
    """Smallest and largest value of an integer type such as Int8 or UInt64."""
    name = str(dtype)
    bits = int("".join(ch for ch in name if ch.isdigit()) or 64)
    return (0, 2**bits - 1) if name.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
