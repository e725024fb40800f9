"""What each column is: detected from the observed cells, overridden by a dict, described in words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from vsae_fast.caller_warning import warn_caller
from vsae_fast.ops.layout import AttributeLayout, Kind
from vsae_fast.table.column import BoolArray, Column, FloatArray, level_key
from vsae_fast.table.times import PythonTime, TimeKind, coarsest_step, duration_in_words, in_words

ColumnKind = Literal["numerical", "integer", "boolean", "categorical", "datetime", "duration", "block"]
Role = Literal["modelled", "empty", "constant", "identifier", "many levels"]

KINDS: tuple[ColumnKind, ...] = get_args(ColumnKind)
TIME_KINDS: tuple[TimeKind, ...] = get_args(TimeKind)
MAX_LEVELS = 10_000
BLOCK_COLUMNS = 64  # of a block that are copied at once
IDENTIFIER_ROWS = 50  # fewer distinct values than this say little about being an identifier
MISSING_LEVEL = "missing_value"  # fills a text column that has no observed cell, as in SimpleImputer


@dataclass(frozen=True)
class ColumnSchema:
    """One column.

    Attributes
    ----------
    name : hashable
    kind : {"numerical", "integer", "boolean", "categorical", "datetime", "duration", "block"}
        Integers are modelled as numbers and rounded, booleans as two levels, times as their seconds; a block of numbers
        is one attribute.
    role : {"modelled", "empty", "constant", "identifier", "many levels"}
        Every role but the first keeps the column out of the model; its holes get ``fill``.
    levels : tuple
        Observed levels of categorical and boolean columns.
    mean, std : float
        Of the observed cells of columns of numbers and times (in seconds), of all numbers of a block.
    low, high : float or None
        Smallest and largest observed value of those; imputed values stay between them.
    fill : object
        Constant for columns that are not modelled.
    detected : bool
        False where the caller's schema decided the kind.
    shape : tuple of int
        Of each row of a block.
    centre : tuple of float
        Mean of each number of a block. What is left is divided by one ``std``, so that errors keep their proportions.
    step : int
        Microseconds that imputed times are multiples of: a day where all observed ones are whole days, and so on.
    cell : {"date", "datetime", "timedelta", ""}
        Type of times that were Python's own objects.
    """

    name: Hashable
    kind: ColumnKind
    role: Role = "modelled"
    levels: tuple[Any, ...] = ()
    mean: float = 0.0
    std: float = 1.0
    low: float | None = None
    high: float | None = None
    fill: Any = None
    detected: bool = True
    shape: tuple[int, ...] = ()
    centre: tuple[float, ...] = ()
    step: int = 1
    cell: PythonTime = ""

    @property
    def width(self) -> int:
        """Columns that it takes in the encoded table."""
        if self.kind == "block":
            return math.prod(self.shape)
        return len(self.levels) if self.kind in ("categorical", "boolean") else 1

    @property
    def time_kind(self) -> TimeKind | None:
        """Kind of a column of times; None of any other."""
        return self.kind if self.kind == "datetime" or self.kind == "duration" else None

    @property
    def attribute_kind(self) -> Kind:
        """Likelihood that models it."""
        return "categorical" if self.kind in ("categorical", "boolean") else "numerical"


@dataclass(frozen=True)
class Schema:
    """All columns of a table, in order."""

    columns: tuple[ColumnSchema, ...]

    @property
    def modelled(self) -> list[int]:
        """Positions of the columns that the model sees."""
        return [j for j, column in enumerate(self.columns) if column.role == "modelled"]

    def layout(self) -> AttributeLayout:
        """Attributes of the model; raises ValueError where no column is modelled."""
        columns = [self.columns[j] for j in self.modelled]
        return AttributeLayout(tuple(c.attribute_kind for c in columns), tuple(c.width for c in columns))

    def __str__(self) -> str:
        rows = [("column", "kind", "details")]
        for column in self.columns:
            if column.role != "modelled" and column.kind == "block":
                details = f"not modelled ({column.role}), filled with its mean"
            elif column.role != "modelled" and column.time_kind:
                filling = in_words(column.time_kind, column.fill, column.step)
                details = f"not modelled ({column.role}), filled with {filling}"
            elif column.role != "modelled":
                details = f"not modelled ({column.role}), filled with {column.fill!r}"
            elif column.kind == "block":
                shape = " x ".join(map(str, column.shape))
                details = f"{shape} numbers, mean {column.mean:.4g}, standard deviation {column.std:.4g}"
            elif column.levels:
                shown = ", ".join(map(str, column.levels[:6])) + (", ..." if len(column.levels) > 6 else "")
                details = f"{len(column.levels)} levels: {shown}"
            elif column.time_kind:
                mean = in_words(column.time_kind, column.mean, column.step)
                details = f"mean {mean}, standard deviation {duration_in_words(column.std)}"
            else:
                details = f"mean {column.mean:.4g}, standard deviation {column.std:.4g}"
            rows.append((str(column.name), column.kind + ("" if column.detected else " (given)"), details))
        widths = [max(len(row[i]) for row in rows) for i in range(2)]
        return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in rows)


def column_position(names: list[Hashable], key: Any) -> int:
    """Position of the column that a name or a position means; a name wins.

    Raises
    ------
    ValueError
        No such column.
    """
    if key in names:
        return names.index(key)
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool) and 0 <= key < len(names):
        return int(key)
    known = ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")
    raise ValueError(f"there is no column {key!r}; columns are {known}")


def resolve_overrides(names: list[Hashable], override: Mapping[Any, str] | None) -> dict[int, ColumnKind]:
    """Map the caller's ``{column: kind}`` to positions.

    Raises
    ------
    ValueError
        A key that names no column or a kind that does not exist.
    """
    resolved: dict[int, ColumnKind] = {}
    for key, kind in (override or {}).items():
        position = column_position(names, key)
        for known in KINDS:
            if kind == known:
                resolved[position] = known
        if position not in resolved:
            raise ValueError(f"schema gives column {key!r} the kind {kind!r}; use one of {', '.join(KINDS)}")
    return resolved


def detect_schema(columns: list[Column], observed: BoolArray, override: Mapping[Any, str] | None = None) -> Schema:
    """Decide kind, levels and scaling of each column from its observed cells.

    Parameters
    ----------
    columns : list of Column
    observed : numpy.ndarray of bool, shape (N, columns)
    override : mapping of column name or position to kind, optional

    Warns
    -----
    UserWarning
        Once, naming every column that is empty, constant, an identifier or has too many levels.

    Raises
    ------
    ValueError
        An override that does not fit.
    """
    overrides = resolve_overrides([column.name for column in columns], override)
    schema = Schema(tuple(_detect(column, observed[:, j], overrides.get(j)) for j, column in enumerate(columns)))
    _warn_unmodelled(schema)
    return schema


def _detect(column: Column, observed: BoolArray, override: ColumnKind | None) -> ColumnSchema:
    known = column.values[observed]
    kind = override or detect_kind(column, known)
    common: dict[str, Any] = {"name": column.name, "kind": kind, "detected": override is None}
    if column.block and kind != "block":
        raise ValueError(
            f"schema makes attribute {column.name!r} {kind}, but each of its rows has shape {column.block}; pass one "
            "value per row"
        )
    if kind != column.storage and (kind in TIME_KINDS or column.storage in TIME_KINDS):
        held = f"{column.storage}s" if column.storage in TIME_KINDS else f"no {kind}s"
        raise ValueError(f"schema makes column {column.name!r} {kind}, but it holds {held}; leave it out or convert it")
    if kind == "block":
        if not column.block:
            raise ValueError(f"schema makes column {column.name!r} a block, but it has one value per row")
        return _describe_block(known, column.block, common)
    if len(known) == 0:
        return ColumnSchema(role="empty", fill=_empty_fill(column, kind), **common)
    if kind in TIME_KINDS:
        common |= {"step": coarsest_step(known), "cell": column.cell}
    if kind in ("numerical", "integer", *TIME_KINDS):
        if known.dtype == object:
            raise ValueError(f"schema makes column {column.name!r} {kind}, but it holds text; convert it to numbers")
        mean, std = mean_and_std(known)
        if std == 0 or known.min() == known.max():
            return ColumnSchema(role="constant", fill=float(known[0]), **common)
        if override is None and kind == "integer" and _counts_rows(known):
            return ColumnSchema(role="identifier", fill=float(np.median(known)), **common)
        return ColumnSchema(mean=mean, std=std, low=float(known.min()), high=float(known.max()), **common)
    levels, counts = _count_levels(known)
    if column.storage == "boolean":
        levels = tuple(bool(level) for level in levels)
    elif column.whole or column.storage == "integer":
        levels = tuple(int(level) for level in levels)
    if kind == "boolean" and len(levels) > 2:
        raise ValueError(f"schema makes column {column.name!r} boolean, but it holds {len(levels)} values")
    mode = levels[int(np.argmax(counts))]
    role: Role = "modelled"
    if len(levels) == 1:
        role = "constant"
    elif override is None and len(levels) == len(known) >= IDENTIFIER_ROWS:
        role = "identifier"
    elif len(levels) > MAX_LEVELS:
        role = "many levels"
    return ColumnSchema(role=role, levels=levels if role == "modelled" else (), fill=mode, **common)


def _describe_block(known: npt.NDArray[Any], shape: tuple[int, ...], common: dict[str, Any]) -> ColumnSchema:
    """Schema of a block whose observed rows are ``known``, shape (n, width)."""
    width = known.shape[1]
    if len(known) == 0:
        return ColumnSchema(role="empty", shape=shape, centre=(0.0,) * width, fill=0.0, **common)
    size = max(abs(float(known.max())), abs(float(known.min()))) or 1.0  # no square of a large double may overflow
    parts = [known[:, j : j + BLOCK_COLUMNS] / size for j in range(0, width, BLOCK_COLUMNS)]
    centre = size * np.concatenate([part.mean(axis=0, dtype=np.float64) for part in parts])
    std = size * math.sqrt(np.concatenate([part.var(axis=0, dtype=np.float64) for part in parts]).mean())
    low, high = float(known.min()), float(known.max())
    constant = bool((known == known[0]).all())
    if constant:
        centre, std = known[0].astype(np.float64), 1.0
    return ColumnSchema(
        role="constant" if constant else "modelled",
        mean=float(centre.mean()),
        std=std,
        low=low,
        high=high,
        shape=shape,
        centre=tuple(centre.tolist()),
        **common,
    )


def detect_kind(column: Column, known: Any) -> ColumnKind:
    """Kind of a column from how it is stored and what its observed cells hold."""
    if column.block:
        return "block"
    if column.storage == "boolean":
        return "boolean"
    if column.storage == "datetime" or column.storage == "duration":
        return column.storage
    if known.dtype == object:
        if len(known) and all(isinstance(value, (bool, np.bool_)) for value in known):
            return "boolean"
        return "categorical"
    if column.storage == "category":
        return "categorical"
    if len(known) and set(np.unique(known)) == {0.0, 1.0}:
        return "boolean"
    if column.storage == "integer" or (column.storage == "object" and column.whole):
        return "integer"
    return "numerical"


def mean_and_std(values: npt.NDArray[Any]) -> tuple[float, float]:
    """Mean and population standard deviation of all values, without overflow for values near the largest double."""
    size = max(abs(float(values.max())), abs(float(values.min())))
    if size == 0:
        return 0.0, 0.0
    scaled = values / size
    return float(scaled.mean() * size), float(scaled.std() * size)


def _count_levels(known: Any) -> tuple[tuple[Any, ...], list[int]]:
    counts = Counter(known.tolist())
    levels = sorted(counts, key=level_key)
    return tuple(levels), [counts[level] for level in levels]


def _counts_rows(known: FloatArray) -> bool:
    """Whether an integer column is a running number: all distinct, rising, and dense enough to be a count of rows."""
    if len(known) < IDENTIFIER_ROWS:
        return False
    steps = np.diff(known)
    return bool((steps > 0).all() and known[-1] - known[0] < 10 * len(known))


def _empty_fill(column: Column, kind: ColumnKind) -> Any:
    if kind == "boolean":
        return False
    if kind == "categorical":
        return column.declared[0] if column.declared else MISSING_LEVEL
    return 0.0


def _warn_unmodelled(schema: Schema) -> None:
    phrases: dict[Role, str] = {
        "empty": "without any observed cell",
        "constant": "constant",
        "identifier": "identifier-like (every value differs)",
        "many levels": f"with more than {MAX_LEVELS:,} levels",
    }
    parts = []
    for role, phrase in phrases.items():
        names = [str(column.name) for column in schema.columns if column.role == role]
        if names:
            parts.append(f"{phrase}: {', '.join(names)}")
    if parts:
        warn_caller("Columns kept out of the model and filled with a constant - " + "; ".join(parts))
