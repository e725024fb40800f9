"""What goes in comes out: type, names, order, dtypes, levels and every observed cell."""

import copy

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

import vsae_fast
from vsae_fast.missingness import ampute
from vsae_fast.table.column import Column
from vsae_fast.table.containers import read_table
from vsae_fast.table.encode import _codes, encode
from vsae_fast.table.frames import FrameTable
from vsae_fast.table.schema import ColumnSchema

QUICK = {"epochs": 1, "n_samples": 5, "random_state": 0}


def numbers(n_rows=40, n_columns=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, n_columns)) * 10
    X[rng.random(X.shape) < 0.3] = np.nan
    return X


def pandas_table():
    """One column of every dtype, a third of the cells missing where the dtype can say so."""
    rng = np.random.default_rng(0)
    n = 60
    hole = rng.random((n, 12)) < 0.3
    number = rng.normal(size=n)
    count = rng.integers(0, 200, n)
    word = rng.choice(["low", "mid", "high"], n)
    flag = rng.random(n) < 0.5
    table = pd.DataFrame(
        {
            "float64": pd.Series(number).mask(hole[:, 0]),
            "float32": pd.Series(number.astype(np.float32)).mask(hole[:, 1]),
            "Float64": pd.Series(number, dtype="Float64").mask(hole[:, 2]),
            "Int64": pd.Series(count, dtype="Int64").mask(hole[:, 3]),
            "UInt8": pd.Series(count.astype(np.uint8), dtype="UInt8").mask(hole[:, 4]),
            "boolean": pd.Series(flag, dtype="boolean").mask(hole[:, 5]),
            "object": pd.Series(word, dtype=object).mask(hole[:, 6]),
            "str": pd.Series(word, dtype="string").mask(hole[:, 7]),
            "category": pd.Series(
                pd.Categorical(pd.Series(word).mask(hole[:, 8]), ["low", "mid", "high", "never"], ordered=True)
            ),
            "arrow_int": pd.Series(count, dtype=pd.ArrowDtype(pa.int16())).mask(hole[:, 9]),
            "arrow_str": pd.Series(word, dtype=pd.ArrowDtype(pa.string())).mask(hole[:, 10]),
            "mixed_bool": pd.Series(flag, dtype=object).mask(hole[:, 11]),
            "complete": count,
        }
    )
    table.index = pd.Index([f"row {i % 50}" for i in range(n)], name="label")  # ten labels occur twice
    return table


def test_pandas_keeps_everything():
    table = pandas_table()
    before = table.copy(deep=True)
    result = vsae_fast.impute(table, **QUICK)
    pd.testing.assert_frame_equal(table, before)
    assert isinstance(result, pd.DataFrame)
    assert result.index.equals(table.index)
    assert result.index.name == "label"
    assert list(result.columns) == list(table.columns)
    assert result.dtypes.equals(table.dtypes)
    assert not result.isna().any(axis=None)
    assert list(result["category"].cat.categories) == ["low", "mid", "high", "never"]
    assert result["category"].cat.ordered
    for name in table.columns:
        seen = table[name].notna().to_numpy()
        pd.testing.assert_series_equal(result[name][seen], table[name][seen], check_exact=True)
    assert set(result["object"]) <= {"low", "mid", "high"}
    assert set(result["mixed_bool"]) <= {True, False}


class Measured(pd.DataFrame):
    @property
    def _constructor(self):
        return Measured


@pytest.mark.parametrize("names", [[0, 1, 2], pd.MultiIndex.from_product([["a"], [0, 1, 2]], names=["x", "y"])])
def test_pandas_keeps_index_names_notes_and_class(names):
    table = Measured(numbers(40, 3), columns=names, index=np.arange(40) % 20)
    table[names[0]] = pd.Categorical([None] * 40)  # a column without levels takes the type of what fills it
    table.attrs["source"] = "survey"
    before = table.copy()
    result = vsae_fast.impute(table, keep_empty_features=True, **QUICK)
    pd.testing.assert_index_equal(result.columns, table.columns)
    pd.testing.assert_index_equal(result.index, table.index)
    assert result.attrs == table.attrs
    assert type(result) is Measured
    assert not result.isna().any().any()
    result[names[1]] = 0.0
    pd.testing.assert_frame_equal(table, before)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "uint64"])
def test_pandas_numbers_keep_their_type_and_the_caller_his_own(dtype):
    values = np.arange(40).astype(dtype).reshape(20, 2)
    mask = np.ones(values.shape, dtype=bool)
    mask[:5, 0] = False
    table = pd.DataFrame(values, columns=["a", "b"])
    result = vsae_fast.impute(table, mask, **QUICK)
    assert (result.dtypes == dtype).all()
    assert (result.to_numpy()[mask] == values[mask]).all()
    assert (table.to_numpy() == np.arange(40).reshape(20, 2)).all()


def test_polars_keeps_everything():
    rng = np.random.default_rng(0)
    words = rng.choice(["a", "b", "c"], 50)
    table = pl.DataFrame(
        {
            "f64": rng.normal(size=50),
            "f32": pl.Series(rng.normal(size=50), dtype=pl.Float32),
            "i8": pl.Series(rng.integers(-100, 100, 50), dtype=pl.Int8),
            "u32": pl.Series(rng.integers(0, 100, 50), dtype=pl.UInt32),
            "bool": rng.random(50) < 0.5,
            "str": words,
            "cat": pl.Series(words, dtype=pl.Categorical),
            "enum": pl.Series(words, dtype=pl.Enum(["c", "b", "a", "z"])),
        }
    )
    table, mask = ampute(table, p=0.3, random_state=0)
    before = table.clone()
    result = vsae_fast.impute(table, **QUICK)
    assert table.equals(before)
    assert result.schema == table.schema
    assert result.null_count().sum_horizontal().item() == 0
    for j, name in enumerate(table.columns):
        assert result[name].filter(pl.Series(mask[:, j])).equals(table[name].filter(pl.Series(mask[:, j])))


def test_polars_objects_are_completed():
    cells = [1.5, "q", None, float("nan")] * 15
    table = pl.DataFrame({"x": pl.Series(cells, dtype=pl.Object), "y": np.arange(60.0)})
    imputed = vsae_fast.impute(table, **QUICK)
    assert imputed.schema == table.schema
    assert all(value in (1.5, "q") for value in imputed["x"].to_list())
    assert imputed["x"].to_list()[:2] == [1.5, "q"]


def test_polars_nan_counts_as_missing():
    table = pl.DataFrame({"a": [1.0, float("nan"), 3.0, None], "b": [1.5, 2.5, 3.5, 4.5]})
    result = vsae_fast.impute(table, **QUICK)
    assert np.isfinite(result["a"].to_numpy()).all()


def test_arrow_table():
    table = pa.table({"x": pa.array([1.0, None, 3.0, 4.5]), "k": pa.array(["a", "b", None, "a"]),
                      "n": pa.array([1, 2, 5, None], pa.int16())})  # fmt: skip
    result = vsae_fast.impute(table, **QUICK)
    assert isinstance(result, pa.Table)
    assert result.schema.types == table.schema.types
    assert sum(column.null_count for column in result.columns) == 0


def test_arrow_keeps_types_and_metadata_that_narwhals_does_not_tell_apart():
    words = ["a", "b", None, "a", None, "b"]
    schema = pa.schema(
        [
            pa.field("large", pa.large_string(), metadata={"unit": "none"}),
            pa.field("levels", pa.dictionary(pa.int8(), pa.large_string())),
            pa.field("number", pa.float32()),
            pa.field("unknown", pa.null()),
        ],
        metadata={"made by": "hand"},
    )
    table = pa.table([words, words, [1.0, None, 2.5, 3.0, None, 4.0], [None] * 6], schema=schema)
    with pytest.warns(UserWarning, match="without any observed cell: unknown"):
        result = vsae_fast.impute(table, **QUICK)
    assert result.schema.metadata == schema.metadata
    for name in ("large", "levels", "number"):
        assert result.schema.field(name).equals(schema.field(name), check_metadata=True)
    assert sum(column.null_count for column in result.columns) == 0


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("order", ["C", "F"])
def test_float_arrays(dtype, order):
    X = np.array(numbers(), dtype=dtype, order=order)
    before = X.copy()
    result = vsae_fast.impute(X, **QUICK)
    assert result.dtype == dtype
    np.testing.assert_array_equal(X, before)
    seen = ~np.isnan(X)
    assert result[seen].tobytes() == X[seen].tobytes()
    assert np.isfinite(result).all()


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_integer_arrays_with_a_mask(dtype):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 2 if dtype is np.bool_ else 200, (50, 3)).astype(dtype)
    mask = rng.random(X.shape) < 0.7
    result = vsae_fast.impute(X, mask, **QUICK)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result[mask], X[mask])
    assert not np.shares_memory(result, X)


def test_object_array_keeps_python_types():
    X = np.array(
        [[1.5, "a", True, 3], [None, "b", False, 5], [2.5, None, None, None], [0.5, "a", True, 9]], dtype=object
    )
    result = vsae_fast.impute(X, **QUICK)
    assert result.dtype == object
    assert isinstance(result[1, 0], float)
    assert result[2, 1] in ("a", "b")
    assert isinstance(result[2, 2], bool)
    assert isinstance(result[2, 3], int)
    assert X[2, 1] is None


def test_text_array_and_nested_lists():
    words = np.array([["aa", "x"], ["b", "y"], ["aa", "y"], ["b", "x"]])
    mask = np.ones((4, 2), dtype=bool)
    mask[0, 0] = False
    assert vsae_fast.impute(words, mask, **QUICK)[0, 0] in ("aa", "b")
    result = vsae_fast.impute([["a", 1.5], ["b", None], ["a", 2.5]], **QUICK)
    assert result[0, 1] == 1.5
    assert isinstance(result[1, 1], float)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_tensors(dtype):
    X = torch.from_numpy(numbers()).to(dtype)
    before = X.clone()
    result = vsae_fast.impute(X, **QUICK)
    assert isinstance(result, torch.Tensor)
    assert result.dtype == dtype
    seen = ~X.isnan()
    assert torch.equal(result[seen], X[seen])
    assert torch.isfinite(result).all()
    assert torch.equal(X.isnan(), before.isnan())


def test_tensor_mask_and_gradient():
    X = torch.randn(30, 3, requires_grad=True, generator=torch.Generator().manual_seed(0))
    result = vsae_fast.impute(X, (torch.rand(30, 3) < 0.7).int(), **QUICK)
    assert not result.requires_grad


@pytest.mark.parametrize("kind", ["bool", "int", "float", "frame", "list"])
def test_masks_of_every_type_say_the_same(kind):
    X = np.nan_to_num(numbers())
    mask = np.random.default_rng(1).random(X.shape) < 0.6
    forms = {"bool": mask, "int": mask.astype(int), "float": mask.astype(float), "list": mask.tolist(),
             "frame": pd.DataFrame(mask)}  # fmt: skip
    np.testing.assert_array_equal(vsae_fast.impute(X, forms[kind], **QUICK), vsae_fast.impute(X, mask, **QUICK))


def test_values_under_the_mask_are_never_read():
    X = np.nan_to_num(numbers())
    mask = np.random.default_rng(1).random(X.shape) < 0.6
    other = np.where(mask, X, np.inf)
    expected = vsae_fast.impute(X, mask, **QUICK)
    np.testing.assert_array_equal(vsae_fast.impute(other, mask, **QUICK), expected)
    np.testing.assert_array_equal(vsae_fast.impute(np.where(mask, X, np.nan), **QUICK), expected)


def test_integers_are_rounded_and_stay_in_their_type():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"u": pd.Series(rng.integers(250, 256, 80), dtype="UInt8"), "v": rng.normal(size=80)})
    table.loc[::2, "u"] = pd.NA
    result = vsae_fast.impute(table, **QUICK)
    assert result["u"].dtype == "UInt8"
    assert (result["u"] >= 200).all()  # saturated, not wrapped round


def test_schema_override_decides_the_kind():
    table = pd.DataFrame({"code": [1.0, 2.0, 3.0, None] * 10, "size": [0.5, 1.5, 2.5, 3.5] * 10})
    result = vsae_fast.impute(table, schema={"code": "categorical"}, **QUICK)
    assert set(result["code"]) <= {1.0, 2.0, 3.0}
    assert result["code"].dtype == np.float64
    as_integer = vsae_fast.impute(table, schema={"code": "integer"}, **QUICK)
    assert (as_integer["code"] % 1 == 0).all()
    by_position = vsae_fast.impute(table, schema={0: "categorical"}, **QUICK)
    pd.testing.assert_frame_equal(by_position, result)


def test_detected_kinds():
    table = pandas_table()
    kinds = {column.name: column.kind for column in vsae_fast.describe_schema(table).columns}
    assert kinds == {
        "float64": "numerical", "float32": "numerical", "Float64": "numerical", "Int64": "integer",
        "UInt8": "integer", "boolean": "boolean", "object": "categorical", "str": "categorical",
        "category": "categorical", "arrow_int": "integer", "arrow_str": "categorical", "mixed_bool": "boolean",
        "complete": "integer",
    }  # fmt: skip


def test_schema_prints_one_line_a_column():
    text = str(vsae_fast.describe_schema(pandas_table(), schema={"Int64": "categorical"}))
    assert len(text.splitlines()) == 14
    assert "categorical (given)" in text
    assert "3 levels: high, low, mid" in text


def test_integer_column_names():
    table = pd.DataFrame(numbers())
    result = vsae_fast.impute(table, **QUICK)
    assert list(result.columns) == [0, 1, 2]
    assert not result.isna().any(axis=None)


def test_all_missing_columns_stay_and_come_back_complete():
    table = pd.DataFrame(
        {"x": [1.0, 2.0, None, 4.0], "void": [np.nan] * 4, "nothing": pd.Series([None] * 4, dtype=object),
         "k": pd.Categorical([None] * 4, ["p", "q"])}
    )  # fmt: skip
    with pytest.warns(UserWarning, match="void, nothing, k"):
        result = vsae_fast.impute(table, **QUICK)
    assert list(result.columns) == list(table.columns)
    assert not result.isna().any(axis=None)
    assert result["k"].dtype == table["k"].dtype


def test_integer_categories():
    codes = pd.Categorical([1, 2, None, 3, 2, 1, None, 2] * 4, categories=[3, 2, 1, 9])
    table = pd.DataFrame({"k": codes, "x": np.linspace(0, 1, 32)})
    result = vsae_fast.impute(table, **QUICK)
    assert result["k"].dtype == table["k"].dtype
    assert set(result["k"]) <= {1, 2, 3}


def test_what_a_cell_looks_like_is_decided_at_fit():
    """In an object array a part of the rows may hold integers only, or nothing; the whole column decides."""
    X = np.array([[1.5, 1, "a"], [2, 2, "b"], [None, None, None], [3, 3, "a"], [2.5, 4, "b"]], dtype=object)
    imputer = vsae_fast.VSAEImputer(**QUICK).fit(X)
    whole = imputer.transform(X)
    assert [type(value) for value in whole[2]] == [float, int, str]
    for rows in ([2], [1, 2], [1, 2, 3]):
        part = imputer.transform(X[rows])
        assert part.tolist() == whole[rows].tolist()
        assert [type(value) for value in part[rows.index(2)]] == [float, int, str]


def test_many_chunks(monkeypatch):
    table = pandas_table()
    imputer = vsae_fast.VSAEImputer(**QUICK).fit(table)
    expected = imputer.transform(table)
    chunks = []
    monkeypatch.setattr("vsae_fast.imputation.MOST_CHUNK_ROWS", 7)
    monkeypatch.setattr("vsae_fast.filling.encode", lambda *a: chunks.append(len(a[2])) or encode(*a))
    monkeypatch.setattr("vsae_fast.table.mask.CHECKED_ROWS", 11)
    imputer = copy.deepcopy(imputer)  # without what the first call has prepared, whose chunks are larger
    pd.testing.assert_frame_equal(imputer.transform(table), expected, check_exact=True)
    assert chunks == [7] * 8 + [4]
    np.testing.assert_array_equal(imputer.score_samples(table).shape, (60,))
    with pytest.raises(ValueError, match=r"infinity in column.*float64, float32"):
        imputer.transform(table.assign(float64=np.inf, float32=np.float32(np.inf)))


@pytest.mark.parametrize(
    "levels",
    [
        pd.cut(np.arange(4), 4).categories,
        pd.period_range("2024-01", periods=4, freq="M"),
        pd.date_range("2024-01-01", periods=4),
        pd.Index([(1, 2), (3, 4), (5, 6), (7, 8)], tupleize_cols=False),
    ],
    ids=["intervals", "periods", "dates", "tuples"],
)
def test_levels_of_any_type(levels, tmp_path, rng):
    codes = rng.integers(4, size=80)
    table = pd.DataFrame({"x": codes + 0.1 * rng.normal(size=80)}, index=range(5, 85))
    complete = pd.Series(pd.Categorical.from_codes(codes, categories=levels, ordered=True), index=table.index)
    table["level"] = complete.where(rng.random(80) < 0.8)
    table["none"] = pd.Categorical.from_codes([-1] * 80, categories=levels)
    before = table.copy()
    with pytest.warns(UserWarning, match="without any observed cell: none"):
        imputer = vsae_fast.VSAEImputer(keep_empty_features=True, **QUICK).fit(table)
    completed = imputer.transform(table)
    assert (completed.dtypes == table.dtypes).all()
    assert completed.notna().all(axis=None)
    assert set(completed["level"]) <= set(levels)
    assert set(completed["none"]) == {levels[0]}
    known = table["level"].notna()
    pd.testing.assert_series_equal(completed["level"][known], table["level"][known])
    pd.testing.assert_frame_equal(table, before)
    imputer.save(tmp_path / "model.safetensors")
    again = vsae_fast.VSAEImputer.load(tmp_path / "model.safetensors").transform(table)
    pd.testing.assert_frame_equal(again, completed)
    draw = imputer.sample(table, n_imputations=1, random_state=0)[0]
    assert draw["level"].dtype == table["level"].dtype
    assert set(draw["level"]) <= set(levels)
    text = table.assign(level=[str(level) if seen else None for level, seen in zip(table["level"], known, strict=True)])
    assert imputer.transform(text)["level"].tolist() == [str(level) for level in completed["level"]]  # known by text


def test_every_cell_of_a_column_of_objects_is_looked_at():
    """Narwhals calls it text by its first hundred cells."""
    cells = ["a", "b"] * 60 + [1.5, None, float("nan"), 2]
    column = read_table(pd.DataFrame({"x": pd.Series(cells, dtype=object)})).columns()[0]
    assert column.missing.sum() == 2
    with pytest.raises(TypeError, match="column 'x' holds a list"):
        read_table(pd.DataFrame({"x": pd.Series([*cells, [1]], dtype=object)})).columns()


@pytest.mark.parametrize(
    "made",
    [
        lambda cells: pd.DataFrame({"x": pd.Series(cells, dtype="string")}),
        lambda cells: pd.DataFrame({"x": pd.Series(cells, dtype="category")}),
        lambda cells: pl.DataFrame({"x": cells}),
        lambda cells: pl.DataFrame({"x": pl.Series(cells, dtype=pl.Categorical)}),
        lambda cells: pa.table({"x": cells}),
        lambda cells: pa.table({"x": pa.array(cells).dictionary_encode()}),
    ],
    ids=["pandas text", "pandas levels", "polars text", "polars levels", "Arrow text", "Arrow levels"],
)
def test_columns_of_text_hold_what_columns_of_objects_hold(made):
    cells = ["b", None, "a", "b", "", "ü", None]
    column = read_table(made(cells)).columns()[0]
    plain = read_table(pd.DataFrame({"x": pd.Series(cells, dtype=object)})).columns()[0]
    assert column.values.tolist() == plain.values.tolist() == cells
    assert column.missing.tolist() == plain.missing.tolist()
    assert column.values.dtype == object


def test_a_frame_is_read_once_and_a_large_one_again(monkeypatch):
    """What is kept of a frame changes nothing but the time."""
    table = pandas_table()
    imputer = vsae_fast.VSAEImputer(**QUICK).fit(table)
    read = []
    own = FrameTable._read
    monkeypatch.setattr(FrameTable, "_read", lambda self, name: read.append(name) or own(self, name))
    monkeypatch.setattr("vsae_fast.imputation.MOST_CHUNK_ROWS", 20)
    expected = imputer.transform(table)
    assert len(read) == table.shape[1]
    read.clear()
    monkeypatch.setattr("vsae_fast.table.frames.MOST_CELLS_KEPT", 0)
    pd.testing.assert_frame_equal(imputer.transform(table), expected, check_exact=True)
    assert len(read) == 4 * table.shape[1]  # checked, then in three chunks


def test_numbers_find_their_level():
    levels = (3.0, -1.5, 1e9, 0.0)
    schema = ColumnSchema("x", "categorical", levels=levels)
    values = np.array([0.0, 2.0, 1e9, -1.5, 3.0, -9.0, 2e9, 3.0])
    known = np.array([True] * 7 + [False])
    as_numbers = Column("x", "float", values, ~known)
    as_objects = Column("x", "object", values.astype(object), ~known)
    for column in (as_numbers, as_objects):
        assert _codes(column, schema, known).tolist() == [3, -1, 2, 1, 0, -1, -1, -1]
    text = ColumnSchema("x", "categorical", levels=("a", 3.0))
    assert _codes(as_numbers, text, known).tolist() == [-1, -1, -1, -1, 1, -1, -1, -1]
    yes = Column("x", "boolean", np.array([1.0, 0.0]), np.zeros(2, dtype=bool))
    assert _codes(yes, ColumnSchema("x", "boolean", levels=(False, True)), np.ones(2, dtype=bool)).tolist() == [1, 0]
