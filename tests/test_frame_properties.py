"""Properties of every output, over random frames of random columns, containers and holes."""

import warnings
from datetime import datetime, timedelta, timezone
from unittest.mock import patch

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vsae_fast import VSAEImputer, ensemble_validation

TINY = {"epochs": 1, "n_models": 1, "n_samples": 5, "random_state": 0}
SETTINGS = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

FINITE = st.floats(-1e9, 1e9, allow_nan=False, allow_subnormal=False)
TEXT = st.sampled_from(["a", "b", "c c", "ä", "0", "1.5", "x,y", '"'])
EARLIEST, LATEST = datetime(1700, 1, 1), datetime(2200, 1, 1)
DATETIMES = st.datetimes(EARLIEST, LATEST)
ZONED = st.datetimes(EARLIEST, LATEST, timezones=st.just(timezone.utc))
# pandas dtype, values of its cells, whether a cell can be missing
COLUMNS = {
    "float64": (FINITE, True),
    "float32": (st.floats(-1e6, 1e6, width=32, allow_nan=False, allow_subnormal=False), True),
    "Float64": (FINITE, True),
    "int64": (st.integers(-(2**40), 2**40), False),
    "int8": (st.integers(-128, 127), False),
    "Int64": (st.integers(-(2**40), 2**40), True),
    "UInt8": (st.integers(0, 255), True),
    "bool": (st.booleans(), False),
    "boolean": (st.booleans(), True),
    "object": (TEXT, True),
    "string": (TEXT, True),
    "category": (TEXT, True),
    "double[pyarrow]": (FINITE, True),
    "int16[pyarrow]": (st.integers(-(2**15), 2**15 - 1), True),
    "string[pyarrow]": (TEXT, True),
    "bool[pyarrow]": (st.booleans(), True),
    "datetime64[us]": (DATETIMES, True),
    "datetime64[ns, Europe/Berlin]": (ZONED, True),
    "timestamp[ms][pyarrow]": (DATETIMES, True),
    "date32[day][pyarrow]": (st.dates(EARLIEST.date(), LATEST.date()), True),
    "timedelta64[s]": (st.timedeltas(-timedelta(9999), timedelta(9999)), True),
}


@st.composite
def frames(draw, columns=tuple(COLUMNS)):
    """A pandas frame with an odd index, columns of any type, holes anywhere, some columns empty or constant."""
    n_rows = draw(st.integers(1, 25))
    table = {}
    for number, dtype in enumerate(draw(st.lists(st.sampled_from(columns), min_size=1, max_size=5))):
        values, nullable = COLUMNS[dtype]
        cells = draw(st.lists(values, min_size=n_rows, max_size=n_rows))
        series = pd.Series(cells, dtype=dtype)
        if nullable:
            holes = draw(st.lists(st.booleans(), min_size=n_rows, max_size=n_rows))
            series = series.mask(np.array(holes))
        table[f"{dtype} {number}"] = series
    frame = pd.DataFrame(table)
    frame.index = draw(st.permutations(range(n_rows)))
    return frame


def fitted_on(table):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constant and empty columns
        return VSAEImputer(**TINY).fit(table)


def quietly(method, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return method(*arguments, **options)


@SETTINGS
@given(frames())
def test_pandas(table):
    before = table.copy(deep=True)
    imputer = fitted_on(table)
    for result in (quietly(imputer.transform, table), quietly(imputer.sample, table, 1)[0]):
        pd.testing.assert_frame_equal(table, before)
        assert not result.isna().any(axis=None)
        assert result.index.equals(table.index)
        assert list(result.columns) == list(table.columns)
        for name in table.columns:
            seen = table[name].notna().to_numpy()
            if seen.any() or table[name].dtype != "category":  # a category without levels takes its fill's
                assert result[name].dtype == table[name].dtype
            pd.testing.assert_series_equal(result[name][seen], table[name][seen], check_exact=True)
            if seen.any() and name.startswith(("date", "time")):
                assert result[name].between(table[name].min(), table[name].max()).all()
            elif seen.any() and table[name].dtype.kind not in "fiu":
                assert set(result[name].astype(str)) <= set(table[name][seen].astype(str))
            if seen.any() and table[name].dtype.kind in "fiu":
                assert result[name].between(table[name].min(), table[name].max()).all()


@SETTINGS
@given(frames(), st.randoms(use_true_random=False))
def test_rows_are_imputed_alone(table, random):
    imputer = fitted_on(table)
    whole = quietly(imputer.transform, table)
    order = list(range(len(table)))
    random.shuffle(order)
    part = order[: max(len(order) // 2, 1)]
    pd.testing.assert_frame_equal(quietly(imputer.transform, table.iloc[part]), whole.iloc[part], check_exact=True)


@SETTINGS
@given(frames(), st.randoms(use_true_random=False))
def test_closed_form_members(table, random):
    """Of tables that have rows enough for validation; their share is set, as one epoch leaves it to chance."""
    tall = pd.concat([table] * (120 // len(table) + 1), ignore_index=True)
    with patch.object(ensemble_validation, "_share", lambda *_: ensemble_validation.Share(0.5, 1.0)):
        imputer = fitted_on(tall)
    assert (imputer.closed_form_ is None) == (not imputer.models_)
    whole = quietly(imputer.transform, tall)
    for result in (whole, quietly(imputer.sample, tall, 1)[0]):
        assert not result.isna().any(axis=None)
        for name in tall.columns:
            seen = tall[name].notna().to_numpy()
            pd.testing.assert_series_equal(result[name][seen], tall[name][seen], check_exact=True)
            if seen.any() and tall[name].dtype.kind in "fiu":
                assert result[name].between(tall[name].min(), tall[name].max()).all()
    part = random.sample(range(len(tall)), 7)
    pd.testing.assert_frame_equal(quietly(imputer.transform, tall.iloc[part]), whole.iloc[part], check_exact=True)


@SETTINGS
@given(frames(columns=("float64", "float32", "Int64", "UInt8", "boolean", "string", "category")))
def test_polars_and_arrow(table):
    imputer = None
    for frame in (pl.from_pandas(table), pa.Table.from_pandas(table, preserve_index=False)):
        imputer = fitted_on(frame)
        result = quietly(imputer.transform, frame)
        assert type(result) is type(frame)
        before, after = _arrow(frame), _arrow(result)
        assert after.column_names == before.column_names
        for name in before.column_names:
            old, new = before[name], after[name]
            empty = old.null_count == len(old)
            assert new.null_count == 0
            assert empty or new.type == old.type
            for was, now in zip(old.to_pylist(), new.to_pylist(), strict=True):
                assert was is None or was == now or was != was


def _arrow(frame):
    return frame.to_arrow() if isinstance(frame, pl.DataFrame) else frame


@SETTINGS
@given(frames(columns=("float64", "Int64", "boolean", "string", "category")))
def test_transform_of_what_the_model_has_not_seen(table):
    """Holes in complete columns, rows without a single known cell, levels that are new."""
    imputer = fitted_on(table)
    blank = table.copy()
    for name in blank.columns:
        blank[name] = blank[name].mask(np.ones(len(blank), dtype=bool))
    result = quietly(imputer.transform, blank)
    assert not result.isna().any(axis=None)
    text = [name for name in table.columns if name.startswith("string")]
    new = table.assign(**dict.fromkeys(text, "never seen"))
    result = quietly(imputer.transform, new)
    assert not result.isna().any(axis=None)
    for name in text:
        assert (result[name] == "never seen").all()


@SETTINGS
@given(st.integers(1, 12), st.integers(1, 4), st.randoms(use_true_random=False))
def test_arrays_and_masks(n_rows, n_columns, random):
    rng = np.random.default_rng(random.randrange(2**31))
    X = rng.normal(size=(n_rows, n_columns)) * 10.0 ** rng.integers(-8, 8)
    mask = rng.random(X.shape) < 0.6
    with_holes = np.where(mask, X, np.nan)
    imputer = fitted_on(with_holes)
    expected = quietly(imputer.transform, with_holes)
    assert np.isfinite(expected).all()
    assert expected[mask].tobytes() == X[mask].tobytes()
    np.testing.assert_array_equal(quietly(imputer.transform, X, mask=mask), np.where(mask, X, expected))


def test_every_dtype_is_drawn():
    assert len(COLUMNS) == 21
    for dtype, (_, _) in COLUMNS.items():
        pd.Series([], dtype=dtype)
    with pytest.raises(TypeError):
        pd.Series([], dtype="no such type")
