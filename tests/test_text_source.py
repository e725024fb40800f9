"""CSV and TSV files of any size: the types that all cells have, block by block, and the same cells as a small file."""

import csv
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tests.test_stream import CutOffError, cut_off_after, make_table
from vsae_fast import VSAEImputer, impute_parquet, text_source
from vsae_fast.cli import main
from vsae_fast.text_source import find_text, to_parquet

QUICK = {"epochs": 2, "n_models": 1, "n_samples": 20}


@pytest.fixture
def folder(tmp_path):
    for name, seed in (("a", 1), ("sub/b", 2)):
        path = tmp_path / "in" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        pa.csv.write_csv(make_table(300, seed=seed), path)
    return tmp_path / "in"


def converted(path, tmp_path, **options):
    files = to_parquet(find_text(path, **options), tmp_path / "work")
    return [pq.read_table(file) for file in files.paths]


def test_a_type_is_that_of_all_cells_not_of_the_first_block(tmp_path, monkeypatch):
    n = 200_000  # several blocks of a mebibyte
    values = [str(i) for i in range(n)]
    with (tmp_path / "a.csv").open("w") as file:
        file.write("whole,late float,late text,flag,day,empty\n")
        for i, value in enumerate(values):
            last = i == n - 1
            late = "0.5" if last else value
            text = "x" if last else value
            file.write(f"{value},{late},{text},{'true' if i % 2 else 'false'},2024-01-0{1 + i % 9},\n")
    monkeypatch.setattr(text_source, "GROUP_ROWS", 50_000)
    (table,) = converted(tmp_path / "a.csv", tmp_path)
    kinds = [pa.int64(), pa.float64(), pa.string(), pa.bool_(), pa.date32(), pa.int64()]
    assert table.schema.types == kinds
    assert table["whole"].to_pylist() == list(range(n))
    assert table["late float"][-1].as_py() == 0.5
    assert table["late text"][:2].to_pylist() == ["0", "1"]
    assert table["empty"].null_count == n
    metadata = pq.read_metadata(tmp_path / "work" / "a.parquet")
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [50_000] * 4


def test_files_share_their_types(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "b.csv").write_text("y,x\n2.5,\n")
    a, b = converted(tmp_path / "*.csv", tmp_path)
    assert a.schema == b.schema == pa.schema([("x", pa.int64()), ("y", pa.float64())])
    assert b.to_pylist() == [{"x": None, "y": 2.5}]


def test_texts_that_mean_a_missing_cell_and_signs_between_cells(tmp_path):
    (tmp_path / "a.tsv").write_text('x\ty\n?\t"a\nb"\n1\tNA\n')
    (table,) = converted(tmp_path / "a.tsv", tmp_path, na_values=("?",))
    assert table.to_pylist() == [{"x": None, "y": "a\nb"}, {"x": 1, "y": None}]


def test_a_folder_of_text_becomes_a_folder_of_parquet(folder, tmp_path):
    report = impute_parquet(folder, tmp_path / "out", **QUICK)
    assert (report.files, report.rows) == (2, 600)
    for name, seed in (("a", 1), ("sub/b", 2)):
        table, completed = make_table(300, seed=seed), pq.read_table(tmp_path / "out" / f"{name}.parquet")
        assert completed.column_names == table.column_names
        assert sum(column.null_count for column in completed.columns) == 0
        for column in table.column_names:
            known = table[column].is_valid()
            assert completed[column].filter(known).to_pylist() == table[column].filter(known).to_pylist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_the_same_values_as_from_memory(folder, tmp_path):
    table = pa.csv.read_csv(folder / "a.csv", convert_options=pa.csv.ConvertOptions(strings_can_be_null=True))
    imputer = VSAEImputer(random_state=0, **QUICK).fit(table)
    impute_parquet(folder / "a.csv", tmp_path / "a.parquet", imputer)
    assert pq.read_table(tmp_path / "a.parquet").equals(imputer.transform(table))


def test_a_run_goes_on_where_it_was_cut_off(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(text_source, "GROUP_ROWS", 100)
    impute_parquet(folder, tmp_path / "whole", **QUICK)
    with pytest.raises(CutOffError):
        impute_parquet(folder, tmp_path / "out", progress=cut_off_after(2), **QUICK)
    assert (tmp_path / ".out.vsae_fast" / "source" / "sub" / "b.parquet").exists()
    monkeypatch.setattr(text_source, "_write", None)  # nothing is written twice
    assert impute_parquet(folder, tmp_path / "out", **QUICK).resumed == 2
    for name in ("a.parquet", "sub/b.parquet"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_changed_file_or_sign_is_refused_and_restart_begins_anew(folder, tmp_path):
    with pytest.raises(CutOffError):
        impute_parquet(folder, tmp_path / "out", progress=cut_off_after(1), **QUICK)
    with pytest.raises(ValueError, match="an unfinished run on this target had another source"):
        impute_parquet(folder, tmp_path / "out", na_values=["?"], **QUICK)
    with (folder / "a.csv").open("a") as file:
        file.write("1,2,3,up\n")
    with pytest.raises(ValueError, match="an unfinished run on this target had another source"):
        impute_parquet(folder, tmp_path / "out", **QUICK)
    assert impute_parquet(folder, tmp_path / "out", restart=True, **QUICK).rows == 601


def test_damaged_files_are_named_or_left_out(folder, tmp_path):
    (folder / "c.csv").write_bytes(b"a,n,k,full\n1,2\n")
    (folder / "d.csv").write_bytes(b"")
    (folder / "e.csv").write_bytes(b"a,n,k,full\n\xff\xfe,1,x,2\n")
    (folder / "f.csv").write_text("a,b\n1,2\n")
    (folder / "g.csv").write_text("a,n,k,full\n")
    with pytest.raises(ValueError, match=r"c\.csv cannot be read as text: .*2"):
        impute_parquet(folder, tmp_path / "out", **QUICK)
    assert not list(tmp_path.glob(".out*"))
    report = impute_parquet(folder, tmp_path / "out", on_error="skip", **QUICK)
    assert [message.split(".csv")[0][-1] for message in report.skipped] == list("cdefg")
    assert (report.files, report.rows) == (2, 600)


def test_files_are_compared_with_the_first_that_can_be_read(tmp_path):
    for name, content in (("a", ""), ("b", "x,y\n1,2\n"), ("c", "x,z\n1,2\n")):
        (tmp_path / f"{name}.csv").write_text(content)
    files = to_parquet(find_text(tmp_path / "*.csv"), tmp_path / "work", skip_unreadable=True)
    assert [path.name for path in files.paths] == ["b.parquet"]
    assert "b.csv differ in column" in files.unreadable[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x;y\n1;2\n", r"it has one column, 'x;y'; pass --delimiter ';'"),
        ("x,y,x\n1,2,3\n", "it has several columns of one name: x; rename them"),
        ("x,y\n", "has no rows"),
    ],
)
def test_wrong_content_is_named(tmp_path, content, message):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        impute_parquet(tmp_path / "a.csv", tmp_path / "out.parquet", **QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_wrong_calls_are_named(folder, tmp_path):
    with pytest.raises(ValueError, match=r"name the target out\.parquet instead of out\.csv"):
        impute_parquet(folder / "a.csv", tmp_path / "out.csv", **QUICK)
    with pytest.raises(ValueError, match="ignore names 'z'"):
        impute_parquet(folder, tmp_path / "out", ignore=["z"], **QUICK)
    pq.write_table(make_table(10), folder / "b.parquet")
    with pytest.raises(ValueError, match=r"holds text and Parquet files; name one kind by a pattern"):
        impute_parquet(folder, tmp_path / "out", **QUICK)
    with pytest.raises(ValueError, match="delimiter and na_values are for text files; leave them out"):
        impute_parquet(folder / "b.parquet", tmp_path / "out.parquet", delimiter=";", **QUICK)
    (folder / "a.tsv").write_text("x\n1\n")
    with pytest.raises(ValueError, match=r"would both become a\.parquet; rename one of them"):
        impute_parquet(folder / "a.?sv", tmp_path / "out", **QUICK)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_the_command_line_takes_folders_of_text(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    frame = make_table(200).to_pandas()
    (tmp_path / "data").mkdir()
    frame.to_csv("data/a.csv", index=False, sep=";", na_rep="?", quoting=csv.QUOTE_MINIMAL)
    options = ["--delimiter", ";", "--na", "?", "--epochs", "2", "--n-models", "1", "--json"]
    main(["impute", "data", "done", *options])
    assert json.loads(capsys.readouterr().out)["rows"] == 200
    main(["impute", "data/a.csv", "one", "--device", "cpu,cpu", *options])
    one, done = (pd.read_parquet(path) for path in ("one/a.parquet", "done/a.parquet"))
    pd.testing.assert_frame_equal(one, done)
    assert not done.isna().to_numpy().any()
    assert np.array_equal(done["n"][frame["n"].notna()], frame["n"].dropna())
