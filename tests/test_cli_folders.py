"""The command line on folders and patterns of files."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.test_cli import QUICK, call
from tests.test_estimator import mixed_table


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_folder(n_files=2):
    Path("data").mkdir()
    for i in range(n_files):
        pq.write_table(pa.Table.from_pandas(mixed_table(seed=i)), f"data/{i}.parquet", row_group_size=50)


def test_folders_called_key_value_add_no_column():
    Path("year=2024").mkdir()
    pq.write_table(pa.Table.from_pandas(mixed_table()), "year=2024/in.parquet")
    assert call("impute", "year=2024/in.parquet", "year=2024/out.parquet", *QUICK) == 0
    result = pq.ParquetFile("year=2024/out.parquet").read()
    assert result.schema.equals(pq.ParquetFile("year=2024/in.parquet").schema_arrow)


def test_a_second_run_and_a_diverging_training_are_one_line(monkeypatch, capsys):
    write_folder()
    for error in (BlockingIOError("another run is at work in x"), FloatingPointError("the loss became nan")):

        def fails(*arguments, error=error, **options):
            raise error

        monkeypatch.setattr("vsae_fast.stream.impute_parquet", fails)
        assert call("impute", "data", "done") == 1
        assert capsys.readouterr().err == f"vsae-fast: error: {error}\n"


def test_a_bug_shows_where_it_is(monkeypatch):
    write_folder()
    monkeypatch.setattr("vsae_fast.stream.impute_parquet", lambda *arguments, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        call("impute", "data", "done")


def test_a_folder_of_parquet_files(capsys):
    write_folder()
    assert call("impute", "data", "done", "--max-train-rows", 100, "--json", *QUICK) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["files"], summary["rows"], summary["row_groups"], summary["resumed"]) == (2, 240, 6, 0)
    for i in range(2):
        result = pq.read_table(f"done/{i}.parquet")
        assert result.schema.equals(pq.read_table(f"data/{i}.parquet").schema, check_metadata=True)
        assert sum(column.null_count for column in result.columns) == 0
    assert call("fit", "data/0.parquet", "m", *QUICK) == 0
    assert call("impute", "data/*.parquet", "other", "--model", "m") == 0
    assert "240 rows in 2 files" in capsys.readouterr().out
    assert sorted(path.name for path in Path("other").iterdir()) == ["0.parquet", "1.parquet"]
    assert call("impute", "data/1.parquet", "big/", "--model", "m") == 0
    assert Path("big/1.parquet").read_bytes() == Path("other/1.parquet").read_bytes()


def test_damaged_files_of_a_folder_are_left_out_and_named(capsys):
    write_folder()
    Path("data/0.parquet").write_bytes(b"no Parquet")
    assert call("impute", "data", "done", "--max-train-rows", 100, *QUICK) == 1
    assert "cannot be read as Parquet" in capsys.readouterr().err
    assert call("impute", "data", "done", "--max-train-rows", 100, "--on-error", "skip", "--json", *QUICK) == 0
    captured = capsys.readouterr()
    assert "left out: " in captured.err
    assert len(json.loads(captured.out)["skipped"]) == 1
    assert [path.name for path in Path("done").iterdir()] == ["1.parquet"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["data", "done", "--n-imputations", "2"], 2, "--n-imputations is for single files"),
        (["data", "done", "--checkpoint-dir", "training"], 2, "--checkpoint-dir is for single files"),
        (["data", "done", "--mask", "m.csv"], 2, "--mask is for single files"),
        (["data", "done", "--model", "m", "--epochs", "2"], 2, "leave --epochs out"),
        (["data", "done", "--model", "m", "--self-masking", "a"], 2, "leave --self-masking out"),
        (["data", "data/0.parquet"], 1, "is a file and the source is several"),
        (["data", "data/done"], 1, "lies in the source"),
        (["none*.parquet", "done"], 1, "there is no Parquet file at none*.parquet"),
        (["data", "done", "--ignore", "month"], 1, "ignore names 'month'"),
        (["data/0.parquet", "o.parquet", "--restart"], 2, "are for folders and patterns"),
        (["data/0.parquet", "o.parquet", "--on-error", "skip"], 2, "are for folders and patterns"),
    ],
)
def test_bad_calls_with_folders(arguments, status, message, capsys):
    write_folder()
    assert call("impute", *arguments) == status
    assert message in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["data"]
