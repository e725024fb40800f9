import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.test_stream import damage, make_table
from vsae_fast import impute_parquet
from vsae_fast.parquet_sample import ROWS_PER_LEVEL, sample_rows
from vsae_fast.parquet_source import UnreadableError, find_files

QUICK = {"epochs": 2, "n_models": 1, "n_samples": 20}
N_ROWS = 3000


def with_rare_levels(n_rare=5, dictionary=False, repeats=10):
    """Two usual levels, and rare ones towards the end of the table."""
    table = make_table(N_ROWS)
    levels = table["k"].to_pylist()
    for i in range(n_rare):
        for j in range(repeats):
            levels[N_ROWS - 1 - i * repeats - j] = f"rare {i}"
    column = pa.array(levels)
    return table.set_column(2, "k", column.dictionary_encode() if dictionary else column)


@pytest.fixture
def write(tmp_path):
    def written(table, name="in.parquet"):
        pq.write_table(table, tmp_path / name, row_group_size=500)
        return find_files(tmp_path / name)

    return written


def test_sample_is_even_and_in_order(tmp_path):
    for i in range(3):
        pq.write_table(make_table(200, seed=i), tmp_path / f"{i}.parquet", row_group_size=60)
    files = find_files(tmp_path)
    rng = np.random.default_rng(0)
    sample = sample_rows(files, 100, rng)
    assert sample.num_rows == 100
    whole = pa.concat_tables([pq.ParquetFile(path).read() for path in files.paths])
    position = {value: i for i, value in enumerate(whole["full"].to_pylist())}
    rows = [position[value] for value in sample["full"].to_pylist()]
    assert rows == sorted(set(rows))
    assert {row // 200 for row in rows} == {0, 1, 2}
    assert sample_rows(files, 10_000, rng).equals(whole)
    few = sample_rows(files, 7, np.random.default_rng(1))
    assert few.num_rows == 7


@pytest.mark.parametrize("dictionary", [False, True])
def test_a_few_rows_of_every_level_come_behind_the_sample(write, dictionary):
    table = with_rare_levels(dictionary=dictionary)
    sample = sample_rows(write(table), 200, np.random.default_rng(0))
    levels = sample["k"].to_pylist()
    drawn, added = levels[:200], levels[200:]
    lacking = {f"rare {i}" for i in range(5)} - set(drawn)
    assert lacking
    assert sorted(added) == sorted([*lacking] * ROWS_PER_LEVEL)
    rows = dict(zip(table["full"].to_pylist(), table.to_pylist(), strict=True))
    assert all(rows[row["full"]] == row for row in sample.to_pylist())  # whole rows, none twice
    assert len(set(sample["full"].to_pylist())) == sample.num_rows


def test_the_levels_can_be_used_and_imputed(write, tmp_path):
    write(with_rare_levels())
    impute_parquet(tmp_path / "in.parquet", tmp_path / "out.parquet", max_train_rows=200, **QUICK)
    assert pq.read_table(tmp_path / "out.parquet")["k"].null_count == 0


def test_identifiers_and_ignored_columns_are_no_levels(write):
    table = make_table(N_ROWS).append_column("id", pa.array([f"row {i}" for i in range(N_ROWS)]))
    sample = sample_rows(write(table), 200, np.random.default_rng(0), ignore=["k"])
    assert sample.num_rows == 200
    assert sample.column_names == ["a", "n", "full", "id"]


def test_rare_levels_take_at_most_a_tenth(write, caplog):
    table = with_rare_levels(n_rare=500, repeats=2)
    with caplog.at_level(logging.WARNING, "vsae_fast"):
        sample = sample_rows(write(table), 200, np.random.default_rng(0))
    assert 200 < sample.num_rows <= 220
    assert "some rare levels are left out of training" in caplog.text


def test_damaged_row_groups(write, tmp_path):
    write(with_rare_levels())
    damage(tmp_path / "in.parquet", 5)  # the last one, that of the rare levels
    files = find_files(tmp_path / "in.parquet")
    with pytest.raises(UnreadableError, match="row group 5"):
        sample_rows(files, 200, np.random.default_rng(0))
    sample = sample_rows(files, 200, np.random.default_rng(0), skip_unreadable=True)
    assert set(sample["k"].to_pylist()) <= {"up", "down", None}


# ---- ranges ---------------------------------------------------------------------------------------------------------


def test_ranges_are_those_of_all_rows(write):
    table = pa.table(
        {
            "x": pa.array([1.5, None, -7.0, 2.0] * 300),
            "n": pa.array([3, 4, None, 9] * 300),
            "nan": pa.array([float("nan"), 1.0, 5.0, 2.0] * 300),
            "text": pa.array(["a", "b", "c", None] * 300),
            "flag": pa.array([True, False, None, True] * 300),
            "late": pa.array([None] * 1100 + [6.0] * 100),
            "none": pa.array([None] * 1200, pa.float64()),
        }
    )
    assert write(table).ranges() == {"x": (-7.0, 2.0), "n": (3.0, 9.0), "nan": (1.0, 5.0), "late": (6.0, 6.0)}


def test_without_statistics_nothing_is_told(tmp_path):
    pq.write_table(pa.table({"x": [1.0, 2.0]}), tmp_path / "in.parquet", write_statistics=False)
    assert find_files(tmp_path / "in.parquet").ranges() == {}


@pytest.mark.parametrize(("given", "expected"), [({}, (-50.0, 60.0)), ({"max_value": 4.0}, (-50.0, 4.0))])
def test_imputed_numbers_keep_to_the_range_of_all_rows(write, tmp_path, monkeypatch, given, expected):
    table = make_table(N_ROWS)
    numbers = table["a"].to_pylist()
    numbers[7], numbers[N_ROWS - 3] = -50.0, 60.0
    write(table.set_column(0, "a", pa.array(numbers)))
    kept = []
    monkeypatch.setattr("vsae_fast.stream.save", lambda imputer, path: kept.append(imputer) or imputer.save(path))
    impute_parquet(tmp_path / "in.parquet", tmp_path / "out.parquet", max_train_rows=100, **given, **QUICK)
    (column,) = (column for column in kept[0].schema_.columns if column.name == "a")
    assert (column.low, column.high) == expected
