"""Columns of datetimes and durations: read, modelled, completed and written by every way into the library."""

import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vsae_fast
from vsae_fast import VSAEImputer, impute_parquet, metrics
from vsae_fast.cli import main
from vsae_fast.missingness import ampute
from vsae_fast.parquet_source import find_files
from vsae_fast.table import times
from vsae_fast.table.containers import read_table

QUICK = {"epochs": 2, "n_models": 1, "n_samples": 20, "random_state": 0}
DAY = 86_400


def complete_table(n_rows=200):
    """Times that follow from one number, each with a resolution of its own."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=n_rows)
    start = pd.Timestamp("2024-01-01")
    return pd.DataFrame(
        {
            "x": x,
            "day": start + pd.to_timedelta(np.round(180 + 60 * x), unit="D"),
            "stamp": start.tz_localize("Asia/Tokyo") + pd.to_timedelta(np.round(1e6 * x), unit="min"),
            "wait": pd.to_timedelta(np.round(1e5 + 1e4 * x), unit="s"),
            "k": np.where(x > 0, "late", "early"),
        }
    )


@pytest.fixture
def table():
    """With holes."""
    return ampute(complete_table(), p=0.2, random_state=0)[0]


@pytest.fixture(scope="module")
def fitted():
    return VSAEImputer(**QUICK).fit(ampute(complete_table(), p=0.2, random_state=0)[0])


# ---- numbers and back -----------------------------------------------------------------------------------------------


@given(st.lists(st.datetimes(datetime.datetime(1834, 1, 1), datetime.datetime(2106, 1, 1)), min_size=1))
def test_seconds_are_exact_to_the_microsecond(cells):
    given_times = np.array(cells, "datetime64[us]")
    seconds, missing = times.to_seconds(given_times)
    assert not missing.any()
    step = times.coarsest_step(seconds)
    assert not (given_times.astype(np.int64) % step).any()
    np.testing.assert_array_equal(times.from_seconds("datetime", seconds, step, None, None), given_times)


@pytest.mark.parametrize("unit", ["ns", "us", "ms", "s", "m", "h", "D"])
def test_steps_are_the_coarsest(unit):
    seconds, missing = times.to_seconds(np.array([-7, 3, "NaT", 11], f"timedelta64[{unit}]"))
    np.testing.assert_array_equal(missing, [False, False, True, False])
    expected = max(int(np.timedelta64(1, unit) / np.timedelta64(1, "us")), 1)
    assert times.coarsest_step(seconds) == expected


def test_times_stay_between_limits_that_are_no_multiples_of_the_step():
    seconds = np.array([-1e9, 0.4 * DAY, 0.6 * DAY, 1e9])
    days = times.from_seconds("duration", seconds, DAY * 10**6, -1.5 * DAY, 2.5 * DAY) / np.timedelta64(1, "D")
    np.testing.assert_array_equal(days, [-1, 0, 1, 2])


@pytest.mark.parametrize(
    ("kind", "value", "seconds"),
    [
        ("datetime", datetime.date(1970, 1, 2), DAY),
        ("datetime", "1970-01-01T00:00:01.5", 1.5),
        ("datetime", pd.Timestamp("1970-01-01 09:00", tz="Asia/Tokyo"), 0),
        ("datetime", np.datetime64("1969-12-31"), -DAY),
        ("duration", datetime.timedelta(hours=1), 3600),
        ("duration", np.timedelta64(5, "m"), 300),
        ("duration", pd.Timedelta(5, "ms"), 0.005),
    ],
)
def test_a_limit_may_be_any_type_of_time(kind, value, seconds):
    assert times.number_of(kind, value) == seconds


@pytest.mark.parametrize(
    ("kind", "value"),
    [("datetime", 3), ("datetime", "soon"), ("datetime", pd.NaT), ("duration", 3.0), ("duration", pd.Timestamp(0))],
)
def test_what_is_no_time_is_refused(kind, value):
    with pytest.raises((TypeError, ValueError)):
        times.number_of(kind, value)


# ---- tables ---------------------------------------------------------------------------------------------------------


def in_days(frame):
    return frame.with_columns(pl.col("day").cast(pl.Date))


CONTAINERS = {
    "pandas": lambda t: t,
    "pandas, nanoseconds": lambda t: t.astype({"day": "datetime64[ns]", "wait": "timedelta64[ns]"}),
    "pandas, Arrow": lambda t: t.convert_dtypes(dtype_backend="pyarrow"),
    "pandas, Arrow dates": lambda t: t.assign(day=t["day"].astype("date32[day][pyarrow]")),
    "polars": pl.from_pandas,
    "polars, dates": lambda t: in_days(pl.from_pandas(t)),
    "Arrow": lambda t: pa.Table.from_pandas(t, preserve_index=False),
    "Arrow, dates": lambda t: in_days(pl.from_pandas(t)).to_arrow(),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gets_its_own_types_and_the_same_values(name, table, fitted):
    given_table = CONTAINERS[name](table)
    result = fitted.transform(given_table)
    assert type(result) is type(given_table)
    types = "schema" if hasattr(given_table, "schema") else "dtypes"
    assert str(getattr(result, types)) == str(getattr(given_table, types))
    expected = fitted.transform(table)
    back = result if isinstance(result, pd.DataFrame) else result.to_pandas()
    for column in ("day", "stamp", "wait"):
        pd.testing.assert_series_equal(
            back[column].astype(expected[column].dtype), expected[column], check_names=False, check_index=False
        )


def test_observed_times_stay_and_imputed_ones_look_like_them(table, fitted):
    result = fitted.transform(table)
    for column in ("day", "stamp", "wait"):
        known = table[column].notna()
        pd.testing.assert_series_equal(result[column][known], table[column][known])
        assert not result[column].isna().any()
        assert result[column].between(table[column].min(), table[column].max()).all()
    assert (result["day"] == result["day"].dt.normalize()).all()
    assert (result["stamp"] == result["stamp"].dt.floor("min")).all()
    assert not (result["stamp"] == result["stamp"].dt.floor("h")).all()


def test_times_are_learned_and_scored():
    truth = complete_table(300)
    incomplete, mask = ampute(truth, p=0.2, random_state=1)
    result = VSAEImputer(n_models=1, random_state=0).fit_transform(incomplete)
    assert metrics.nrmse(truth, result, mask, columns=["day", "stamp", "wait"]) < 0.4  # 1 is the mean's


def test_a_row_alone_is_completed_as_among_others(table, fitted):
    whole = fitted.transform(table)
    row = int(np.flatnonzero(table["day"].isna() & table["wait"].isna())[0])
    pd.testing.assert_frame_equal(fitted.transform(table.iloc[[row]]), whole.iloc[[row]])


def test_the_schema_in_words(fitted):
    text = str(fitted.schema_)
    assert "day     datetime     mean 2024-0" in text
    assert "wait    duration     mean 1.1" in text
    assert "days" in text


def test_columns_of_times_that_hold_nothing_or_one_value():
    table = pd.DataFrame(
        {
            "x": [1.0, 2.0, None, 4.0],
            "void": pd.Series([pd.NaT] * 4, dtype="datetime64[us]"),
            "once": [pd.Timestamp("2024-05-01"), pd.NaT, pd.NaT, pd.Timestamp("2024-05-01")],
        }
    )
    with pytest.warns(UserWarning, match=r"without any observed cell: void; constant: once"):
        imputer = VSAEImputer(**QUICK).fit(table)
    assert "not modelled (constant), filled with 2024-05-01" in str(imputer.schema_)
    result = imputer.transform(table)
    assert result["void"].tolist() == [pd.Timestamp(0)] * 4
    assert result["once"].tolist() == [pd.Timestamp("2024-05-01")] * 4


@pytest.mark.parametrize("empty", [np.nan, None, pd.NaT], ids=["nan", "None", "NaT"])
def test_new_rows_may_miss_every_time(empty, table, fitted):
    result = fitted.transform(table.assign(day=empty))
    assert result["day"].dtype.kind == "M"
    assert not result["day"].isna().any()


def test_arrays_of_times():
    days = np.datetime64("2024-01-01") + np.arange(60).reshape(30, 2)
    days[::4, 1] = "NaT"
    result = vsae_fast.impute(days, **QUICK)
    assert result.dtype == days.dtype
    assert not np.isnat(result).any()
    np.testing.assert_array_equal(result[~np.isnat(days)], days[~np.isnat(days)])
    assert np.isnat(days).any()


def as_objects(times, method):
    """Column of Python's own objects."""
    return pd.Series([None if pd.isna(time) else getattr(time, method)() for time in times], dtype=object)


def test_times_that_are_objects(table, fitted):
    """As databases give them; the same values as in a type of their own."""
    stamps = table["stamp"].dt.tz_convert("UTC").dt.tz_localize(None)
    objects = table.assign(
        day=as_objects(table["day"], "date"),
        stamp=as_objects(stamps, "to_pydatetime"),
        wait=as_objects(table["wait"], "to_pytimedelta"),
    )
    result, expected = fitted.transform(objects), fitted.transform(table)
    for name, kind in (("day", datetime.date), ("stamp", datetime.datetime), ("wait", datetime.timedelta)):
        assert result[name].dtype == object
        assert {type(value) for value in result[name]} == {kind}
    assert result["day"].tolist() == expected["day"].dt.date.tolist()
    assert pd.to_timedelta(result["wait"]).tolist() == expected["wait"].tolist()
    assert pd.to_datetime(result["stamp"], utc=True).tolist() == expected["stamp"].dt.tz_convert("UTC").tolist()


def test_arrays_and_polars_frames_of_objects(table):
    days = as_objects(table["day"], "date").tolist()
    array = np.array([table["x"].tolist(), days], dtype=object).T
    assert {type(value) for value in vsae_fast.impute(array, **QUICK)[:, 1]} == {datetime.date}
    frame = pl.DataFrame({"x": table["x"].to_numpy(), "day": pl.Series(days, dtype=pl.Object)})
    result = vsae_fast.impute(frame, **QUICK)
    assert result.schema == frame.schema
    assert {type(value) for value in result["day"].to_list()} == {datetime.date}


def test_a_row_of_objects_alone_is_completed_as_among_others(table):
    frame = table[["x"]].assign(day=as_objects(table["day"], "date"), wait=as_objects(table["wait"], "to_pytimedelta"))
    row = int(np.flatnonzero(table["day"].isna() & table["wait"].isna())[0])
    imputer = VSAEImputer(**QUICK).fit(frame)
    pd.testing.assert_frame_equal(imputer.transform(frame.iloc[[row]]), imputer.transform(frame).iloc[[row]])
    array = frame.to_numpy(dtype=object)
    imputer = VSAEImputer(**QUICK).fit(array)
    alone = imputer.transform(array[[row]])[0].tolist()
    assert alone == imputer.transform(array)[row].tolist()
    assert [type(cell) for cell in alone] == [float, datetime.date, datetime.timedelta]


def test_an_attribute_may_be_times():
    days = np.datetime64("2024-01-01") + np.arange(60)
    days[::4] = "NaT"
    result = vsae_fast.impute({"image": np.random.default_rng(0).normal(size=(60, 5)), "day": days}, **QUICK)
    assert result["day"].dtype == days.dtype
    assert result["day"].shape == days.shape
    assert not np.isnat(result["day"]).any()


def test_limits(table):
    low, high = "2024-06-01", datetime.date(2024, 6, 30)
    gone = table["day"].isna()
    result = vsae_fast.impute(table, min_value={"day": low, "x": 0.0}, max_value={"day": high}, **QUICK)
    assert result["day"][gone].between(low, pd.Timestamp(high)).all()
    assert (result["x"][table["x"].isna()] >= 0).all()
    result = vsae_fast.impute(table, max_value=pd.Timestamp(high), min_value=0.5, **QUICK)
    assert (result["day"][gone] <= pd.Timestamp(high)).all()
    assert (result["x"][table["x"].isna()] >= 0.5).all()


def test_draws(table, fitted):
    draws = fitted.sample(table, n_imputations=3, random_state=0)
    assert [draws[0][name].dtype for name in table] == [table[name].dtype for name in table]
    gone = table["day"].isna().to_numpy()
    position = list(table).index("day")
    seconds = np.stack([read_table(draw).columns()[position].values for draw in draws])
    np.testing.assert_allclose(draws.mean()[:, position], seconds.mean(axis=0))
    assert (draws.std()[gone, position] > 0).any()
    assert (draws.std()[~gone, position] == 0).all()
    assert draws.to_long()["day"].dtype == table["day"].dtype


def test_a_saved_model_completes_the_same(table, fitted, tmp_path):
    fitted.save(tmp_path / "model")
    pd.testing.assert_frame_equal(VSAEImputer.load(tmp_path / "model").transform(table), fitted.transform(table))


# ---- what does not fit ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(day=1.0), "'day' held datetimes at fit and now holds no times; convert it"),
        (lambda t: t.assign(day=t["wait"]), "'day' held datetimes at fit and now holds durations"),
        (lambda t: t.assign(x=t["day"]), "'x' held no times at fit and now holds datetimes"),
        (lambda t: t.assign(k=t["day"]), "'k' held no times at fit and now holds datetimes"),
    ],
)
def test_new_rows_of_another_kind_are_refused(change, message, table, fitted):
    with pytest.raises(ValueError, match=message):
        fitted.transform(change(table))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schema": {"day": "categorical"}}, "schema makes column 'day' categorical, but it holds datetimes; leave it"),
        ({"schema": {"x": "duration"}}, "schema makes column 'x' duration, but it holds no durations"),
        ({"min_value": {"day": 3}}, "min_value of column 'day' must be a datetime, got 3"),
        ({"max_value": {"wait": "long"}}, "max_value of column 'wait' must be a duration, got 'long'"),
        ({"min_value": {"day": "2030-01-01"}}, "'day' would have to lie between"),
        ({"min_value": [0.0, 0.0, 0.0, 0.0, 0.0]}, "min_value of column 'day' must be a datetime, got 0.0"),
        ({"min_value": [pd.Timestamp(0)] * 5}, "min_value of column 'x' must be a number, got Timestamp"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message, table):
    with pytest.raises(ValueError, match=message):
        vsae_fast.impute(table, **QUICK, **options)


@pytest.mark.parametrize("limit", [datetime.date(2024, 1, 1), datetime.timedelta(1)])
def test_a_time_that_limits_no_column_is_refused(limit):
    with pytest.raises(ValueError, match=r"max_value .* limits no column of this table; pass a number or a dict"):
        vsae_fast.impute(pd.DataFrame({"x": [1.0, None, 3.0]}), max_value=limit, **QUICK)


def test_text_limits_no_column(table):
    with pytest.raises(ValueError, match="min_value '2024-01-01' limits no column"):
        vsae_fast.impute(table[["day"]], min_value="2024-01-01", **QUICK)


# ---- files ----------------------------------------------------------------------------------------------------------


def test_streamed_times_keep_to_the_range_of_all_rows(tmp_path):
    """The first rows, of which the model learns, end earlier than those that come later."""
    n_rows = 600
    x = np.linspace(-1, 1, n_rows)
    days = np.datetime64("2024-01-01") + np.round(1000 * x).astype(int)
    table = pa.table({"x": x, "day": pa.array(days, pa.date32(), mask=np.arange(n_rows) % 5 == 0)})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=200)
    assert find_files(tmp_path / "in.parquet").ranges()["day"] == (
        times.number_of("datetime", days[1]),
        times.number_of("datetime", days[-1]),
    )
    impute_parquet(tmp_path / "in.parquet", tmp_path / "out.parquet", epochs=2, n_models=1, n_samples=20)
    result = pq.read_table(tmp_path / "out.parquet")
    assert result.schema.equals(table.schema)
    assert result["day"].null_count == 0


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_ranges_of_files_are_in_seconds(unit, tmp_path):
    low, high = datetime.datetime(2024, 1, 1, 12), datetime.datetime(2024, 3, 1, 18, 0, 1)
    columns = {
        "stamp": pa.array([high, None, low], pa.timestamp(unit)),
        "zone": pa.array([high, None, low], pa.timestamp(unit, "Asia/Tokyo")),
        "wait": pa.array([datetime.timedelta(days=2), datetime.timedelta(seconds=-1), None], pa.duration(unit)),
    }
    pq.write_table(pa.table(columns), tmp_path / "in.parquet", row_group_size=2)
    ends = times.number_of("datetime", low), times.number_of("datetime", high)
    assert find_files(tmp_path / "in.parquet").ranges() == {
        "stamp": ends,
        "zone": ends,
        "wait": (-1, pytest.approx(2 * DAY)),
    }


def write_text(path, n_rows=120):
    x = np.random.default_rng(0).normal(size=n_rows).round(3)
    stamps = pd.Timestamp("2024-01-02 08:30") + pd.to_timedelta(np.round(5000 * x), unit="min")
    table = pd.DataFrame(
        {
            "x": x,
            "day": stamps.strftime("%Y-%m-%d"),
            "minute": stamps.strftime("%Y-%m-%dT%H:%M"),
            "second": stamps.strftime("%Y-%m-%d %H:%M:%S"),
            "zone": stamps.strftime("%Y-%m-%d %H:%M:%SZ"),
        }
    )
    incomplete = table.mask(np.random.default_rng(1).random(table.shape) < 0.2)
    incomplete.to_csv(path, index=False)
    return incomplete


PATTERNS = {
    "day": r"\d{4}-\d\d-\d\d",
    "minute": r"\d{4}-\d\d-\d\dT\d\d:\d\d",
    "second": r"\d{4}-\d\d-\d\d \d\d:\d\d:00",
    "zone": r"\d{4}-\d\d-\d\d \d\d:\d\d:00Z",
}


def test_times_of_a_text_file_are_written_as_they_were(tmp_path):
    incomplete = write_text(tmp_path / "in.csv")
    options = ["--epochs", "2", "--n-models", "1", "--n-samples", "20", "--quiet"]
    main(["impute", str(tmp_path / "in.csv"), str(tmp_path / "out.csv"), *options])
    result = pd.read_csv(tmp_path / "out.csv", dtype=str)
    for name, pattern in PATTERNS.items():
        assert result[name].str.fullmatch(pattern).all(), result[name]
        known = incomplete[name].notna()
        assert (result[name][known] == incomplete[name][known]).all()


def test_times_of_text_files_are_streamed_as_times(tmp_path):
    source = Path(tmp_path) / "in"
    source.mkdir()
    for name in ("a.csv", "b.csv"):
        write_text(source / name)
    impute_parquet(source, tmp_path / "out", epochs=2, n_models=1, n_samples=20)
    result = pq.read_table(tmp_path / "out" / "b.parquet")
    assert [str(result.schema.field(name).type) for name in PATTERNS] == [
        "date32[day]", "timestamp[ms]", "timestamp[ms]", "timestamp[ms, tz=UTC]",
    ]  # fmt: skip
    assert all(result[name].null_count == 0 for name in PATTERNS)
