"""Types of Arrow, in its own tables and in pandas, whose cells narwhals does not read or fill."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vsae_fast
from vsae_fast.table.arrow_cells import filled

QUICK = {"epochs": 1, "n_samples": 5, "n_models": 1, "random_state": 0}
N = 84
DAYS = [datetime.date(2024, 1, 1) + datetime.timedelta(days=i % 30) for i in range(N)]
TIMES = [datetime.datetime(2024, 1, 1, 0, i % 60) for i in range(N)]


def with_holes(values, kind=None):
    return pa.array([None if i % 7 == 0 else value for i, value in enumerate(values)], kind)


def encoded(values, kind=None):
    return with_holes(values, kind).dictionary_encode()


def levels(indices, names):
    places = with_holes(indices, pa.int8())
    return pa.DictionaryArray.from_arrays(places, pa.array(names), ordered=True)


PRICES = [Decimal(125 + i % 9).scaleb(-2) for i in range(N)]
COLUMNS = {
    "decimal128": with_holes(PRICES, pa.decimal128(12, 2)),
    "decimal256": with_holes(PRICES, pa.decimal256(50, 2)),
    "decimal of more digits than a double": with_holes([p + 10**15 for p in PRICES], pa.decimal128(30, 10)),
    "decimal of whole hundreds": with_holes([100 * (i % 5) for i in range(N)], pa.int64()).cast(pa.decimal128(20, 0)),
    "date64": with_holes(DAYS, pa.date64()),
    "text": encoded(["x", "y"] * (N // 2)),
    "large text": encoded(["x", "y"] * (N // 2), pa.large_string()),
    "ordered levels, one unused": levels([2, 0] * (N // 2), ["low", "middle", "high"]),
    "integers": encoded([10, 20] * (N // 2)),
    "floats": encoded([1.5, 2.5] * (N // 2)),
    "booleans": encoded([True, False] * (N // 2)),
    "dates": encoded(DAYS),
    "dates of 64 bits": encoded(DAYS, pa.date64()),
    "times": encoded(TIMES, pa.timestamp("us", "UTC")),
    "decimals": encoded(PRICES),
}
if hasattr(pa, "string_view"):
    COLUMNS["view"] = with_holes(["x", "y"] * (N // 2), pa.string_view())
FEW = {"text", "large text", "integers", "floats", "booleans", "ordered levels, one unused", "view"}


def table_of(column):
    return pa.table({"x": np.random.default_rng(0).normal(size=N), "t": column})


def assert_completed(completed, column, name):
    cells, known = completed.to_pylist(), column.to_pylist()
    assert completed.type == column.type
    assert all(a == b for a, b in zip(cells, known, strict=True) if b is not None)
    seen = [cell for cell in known if cell is not None]
    if isinstance(seen[0], Decimal):  # filled through doubles
        cells, seen = [float(cell) for cell in cells], [float(cell) for cell in seen]
    assert all(min(seen) <= cell <= max(seen) for cell in cells)
    if name in FEW:
        assert set(cells) <= set(seen)


@pytest.mark.parametrize("name", COLUMNS)
def test_arrow_tables(name):
    table = table_of(COLUMNS[name])
    completed = vsae_fast.impute(table, **QUICK)
    assert completed.schema.equals(table.schema)
    assert_completed(completed["t"], COLUMNS[name], name)
    if name == "ordered levels, one unused":
        assert completed["t"].chunk(0).dictionary.to_pylist() == ["low", "middle", "high"]


@pytest.mark.parametrize("name", COLUMNS)
def test_pandas_columns_of_arrow(name):
    column = pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array([COLUMNS[name]])), index=range(9, 9 + N))
    frame = pd.DataFrame({"x": np.random.default_rng(0).normal(size=N)}, index=column.index).assign(t=column)
    before = frame.copy()
    completed = vsae_fast.impute(frame, **QUICK)
    assert completed["t"].dtype == frame["t"].dtype
    assert completed.index.equals(frame.index)
    assert_completed(pa.chunked_array(completed["t"].array.__arrow_array__()), COLUMNS[name], name)
    assert frame["t"].isna().equals(before["t"].isna())


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_without_observed_cells(name):
    table = table_of(pa.nulls(N, COLUMNS[name].type))
    with pytest.warns(UserWarning, match="without any observed cell: t"):
        completed = vsae_fast.impute(table, keep_empty_features=True, **QUICK)
    assert completed["t"].null_count == 0


def test_chunks_with_dictionaries_of_their_own():
    imputer = vsae_fast.VSAEImputer(**QUICK).fit(table_of(COLUMNS["integers"]))
    parts = [pa.array(cells).dictionary_encode() for cells in ([10, None, 10], [None, 20])]
    new = pa.table({"x": np.arange(5.0), "t": pa.chunked_array(parts)})
    completed = imputer.transform(new)
    assert completed.schema.equals(new.schema)
    cells = completed["t"].to_pylist()
    assert [cells[0], cells[2], cells[4]] == [10, 10, 20]
    assert set(cells) <= {10, 20}


def test_a_level_that_the_table_lacks_is_added():
    imputer = vsae_fast.VSAEImputer(**QUICK).fit(table_of(encoded([10, 10, 10, 20] * (N // 4))))
    new = pa.table({"x": [0.5], "t": pa.array([None], pa.int64()).dictionary_encode()})
    completed = imputer.transform(new)
    assert completed.schema.equals(new.schema)
    assert completed["t"].to_pylist() in ([10], [20])


@pytest.mark.parametrize("levels", [[10, 10, 20], [10, 10]])
def test_a_level_that_a_dictionary_has_twice(levels):
    """Levels after it keep their places, and one that is added gets a place of its own."""
    codes = pa.array([1, None, len(levels) - 1], pa.int8())
    column = pa.chunked_array([pa.DictionaryArray.from_arrays(codes, pa.array(levels))])
    completed = filled(column, np.array([1]), np.array([20]))
    assert completed.to_pylist() == [10, 20, levels[-1]]
    assert completed.type == column.type


def test_decimals_are_held_inside_their_type():
    column = with_holes([Decimal(99 - i % 2).scaleb(-1) for i in range(N)], pa.decimal128(2, 1))
    completed = vsae_fast.impute(table_of(column), min_value={"t": 50}, max_value={"t": 80}, **QUICK)
    assert max(completed["t"].to_pylist()) == Decimal("9.9")


def test_parquet_files(tmp_path):
    table = pa.table({"x": np.random.default_rng(0).normal(size=N), "price": COLUMNS["decimal128"],
                      "day": COLUMNS["date64"], "level": COLUMNS["ordered levels, one unused"]})  # fmt: skip
    pq.write_table(table, tmp_path / "before.parquet", row_group_size=20)
    vsae_fast.impute_parquet(tmp_path / "before.parquet", tmp_path / "after.parquet", **QUICK)
    before, after = pq.read_table(tmp_path / "before.parquet"), pq.read_table(tmp_path / "after.parquet")
    assert after.schema.equals(before.schema)
    for name in ("price", "day", "level"):
        assert_completed(after[name], before[name].combine_chunks(), name)
