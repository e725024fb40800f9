"""Data frames of any library that narwhals can read, as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import numpy.typing as npt

from vsae_fast.table.column import BoolArray, Column, from_objects, from_strings, object_array, time_column
from vsae_fast.table.levels import level_names, own_levels

# Of a data frame, read once: cells are checked first and encoded later, and reading objects takes longer than either.
MOST_CELLS_KEPT = 1 << 21

# What to do with types of pandas that are not read, by the beginning of their names.
CONVERSIONS = {
    "period": "convert it with .dt.to_timestamp() or drop it",
    "Sparse": "convert it with .sparse.to_dense() or drop it",
    "interval": "convert it with .astype('category') or drop it",
}

WIDTHS = {"i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (4, 8)}  # of numbers that every library has, in bytes


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

    def _arrow(self, name: Hashable) -> Any:
        """Arrow's cells of a column, of Arrow or of pandas, that narwhals does not read or fill; None of any other."""
        backend = self.frame.implementation
        if not (backend.is_pandas() or backend.is_pyarrow()):
            return None
        column = self.frame.to_native()[name]
        if backend.is_pandas():
            if type(column.dtype).__name__ != "ArrowDtype":
                return None
            column = column.array.__arrow_array__()
        from vsae_fast.table.arrow_cells import is_plain

        return None if is_plain(column.type) else column

    def _readable(self, name: Hashable) -> nw.Series[Any]:
        """Column of a type that narwhals reads."""
        cells = self._arrow(name)
        if cells is None:
            return self._series(name)
        from vsae_fast.table.arrow_cells import readable

        series: nw.Series[Any] = nw.from_native(readable(cells), series_only=True)
        return series

    def _can_hold(self, name: Hashable, series: nw.Series[Any], values: npt.NDArray[Any]) -> bool:
        """Whether values can be written to a column without observed cells; ``series`` is the readable one."""
        cells = self._arrow(name)
        if cells is None:
            return _can_hold(series, values)
        from vsae_fast.table.arrow_cells import can_hold

        return can_hold(cells.type, values)

    def _filled(
        self, name: Hashable, series: nw.Series[Any], rows: npt.NDArray[np.intp], values: npt.NDArray[Any]
    ) -> nw.Series[Any]:
        """Copy of a column with values in some rows, of the same type; ``series`` is the readable one."""
        cells = self._arrow(name)
        if cells is None:
            return _filled(series, rows, values)
        from vsae_fast.table.arrow_cells import filled

        result: Any = filled(cells, rows, values)
        before = self.frame.to_native()[name]
        if self.frame.implementation.is_pandas():
            result = type(before)(type(before.array)(result), name=name)
        whole: nw.Series[Any] = nw.from_native(result, series_only=True)
        return whole.alias(str(name)) if self.frame.implementation.is_pyarrow() else whole

    def _plain_numbers(self, name: Hashable) -> npt.NDArray[Any] | None:
        """Cells of a pandas column of NumPy's own numbers, in the caller's memory; None of any other column.

        Most tables are of these, whose only missing value is NaN. narwhals' passes over them cost more than all else
        that is done to a small table: half of the time of a single row.
        """
        if not self.frame.implementation.is_pandas():
            return None
        column = self.frame.to_native()[name]
        dtype = column.dtype
        if isinstance(dtype, np.dtype) and dtype.kind in "iuf" and dtype.itemsize in WIDTHS[dtype.kind]:
            cells: npt.NDArray[Any] = column.to_numpy()
            return cells
        return None

    def _read(self, name: Hashable) -> Column:
        plain = self._plain_numbers(name)
        if plain is not None:
            values = np.asarray(plain, dtype=np.float64)
            if plain.dtype.kind != "f":
                limits = np.iinfo(plain.dtype)
                nowhere = np.zeros(len(values), dtype=bool)
                return Column(name, "integer", values, nowhere, (int(limits.min), int(limits.max)))
            return Column(name, "float", values, np.isnan(values))
        series = self._readable(name)
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
            if self.frame.implementation.is_pandas() and (names := level_names(name, declared)):
                texts = [names.get(level) for level in series.to_list()]
                return replace(from_strings(name, texts, missing, "category"), declared=tuple(names.values()))
            objects = object_array(_masked(series.to_list(), missing))
            return replace(from_objects(name, objects, "category"), declared=declared)
        # Of pandas' columns of objects narwhals looks at the first hundred cells alone.
        if isinstance(dtype, nw.String) and not isinstance(getattr(series.to_native(), "dtype", None), np.dtype):
            return from_strings(name, series.to_list(), missing)
        if isinstance(dtype, (nw.String, nw.Object)):
            if self.frame.implementation.is_pandas():  # which has told nan and the like among objects from the rest
                return from_objects(name, series.to_native().to_numpy(), missing=missing)
            return from_objects(name, object_array(_masked(series.to_list(), missing)))
        if isinstance(dtype, (nw.Date, nw.Datetime, nw.Duration)):
            return time_column(name, _times(series, missing))
        if missing.all():
            return Column(name, "object", np.full(len(missing), np.nan), missing)
        if dtype == nw.Time:
            raise ValueError(f"column {name!r} holds times of day; turn it into numbers first, for example hours")
        if "complex" in str(getattr(series.to_native(), "dtype", "")):
            raise ValueError(f"Complex data not supported: column {name!r}; split it into real columns")
        own = str(getattr(series.to_native(), "dtype", dtype))
        remedy = next((words for start, words in CONVERSIONS.items() if own.startswith(start)), "convert or drop it")
        raise ValueError(f"column {name!r} has type {own}, which cannot be imputed; {remedy}")

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
        changed: dict[Hashable, nw.Series[Any]] = {}
        plain: dict[Hashable, npt.NDArray[Any]] = {}
        retyped: set[Hashable] = set()
        backend = self.frame.implementation
        for j, (name, values) in enumerate(zip(self.names, fills, strict=True)):
            if not len(values):
                continue
            cells = self._plain_numbers(name) if values.dtype.kind in "iuf" else None
            if cells is not None:
                plain[name] = cells.copy()
                plain[name][missing[:, j]] = values
                continue
            series = self._readable(name)
            if series.implementation.is_pandas() and isinstance(series.dtype, (nw.Categorical, nw.Enum)):
                values = own_levels(name, series.to_native().dtype.categories.tolist(), values)
            if len(values) == len(series):  # no observed cell: an untyped or level-less column takes its fill's type
                whole = nw.new_series(str(name), values.tolist(), backend=backend)
                if series.dtype == nw.Unknown or not self._can_hold(name, series, values):
                    changed[name] = whole
                    retyped.add(name)
                    continue
            changed[name] = self._filled(name, series, np.flatnonzero(missing[:, j]), values)
        if not changed and not plain:
            return self.frame.clone().to_native()
        if backend.is_pandas():  # narwhals would put the frame together anew, column by column
            result = self.frame.to_native().copy(deep=False)
            for name, cells in plain.items():
                result[name] = cells
            for name, series in changed.items():  # with its index, whatever that holds: nothing is to be aligned
                result[name] = series.to_native().set_axis(result.index)
            return result
        result = self.frame.with_columns(*changed.values()).to_native()
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
    if values.dtype.kind in "mM":
        return series.scatter(rows.tolist(), _typed_times(series, values))
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


def _times(series: nw.Series[Any], missing: BoolArray) -> npt.NDArray[Any]:
    """Datetimes in UTC, or durations, as NumPy has them."""
    times: npt.NDArray[Any] = series.to_numpy()
    if times.dtype != object:
        return times
    return np.array(_masked(times.tolist(), missing), dtype="datetime64[us]")  # pandas' Arrow dates


def _typed_times(series: nw.Series[Any], values: npt.NDArray[Any]) -> nw.Series[Any]:
    """Times as a series of the type of another one."""
    dtype = series.dtype
    own: nw.dtypes.DType = nw.Duration("us") if values.dtype.kind == "m" else nw.Datetime("us")
    typed = nw.new_series(series.name, values, own, backend=series.implementation)
    if isinstance(dtype, nw.Datetime) and dtype.time_zone is not None:
        typed = typed.dt.replace_time_zone("UTC").dt.convert_time_zone(dtype.time_zone)
    return typed if typed.dtype == dtype else typed.cast(dtype)


def _masked(objects: list[Any], missing: BoolArray) -> list[Any]:
    return [None if gone else value for value, gone in zip(objects, missing, strict=True)]


def _can_hold(series: nw.Series[Any], values: npt.NDArray[Any]) -> bool:
    if values.dtype.kind in "mM":
        return isinstance(series.dtype, (nw.Date, nw.Datetime, nw.Duration))
    if not isinstance(series.dtype, (nw.Categorical, nw.Enum)):
        return True
    return set(values.tolist()) <= set(series.cat.get_categories().to_list())


def integer_bounds(dtype: nw.dtypes.DType) -> tuple[int, int]:
    """Smallest and largest value of an integer type such as Int8 or UInt64."""
    name = str(dtype)
    bits = int("".join(ch for ch in name if ch.isdigit()) or 64)
    return (0, 2**bits - 1) if name.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
