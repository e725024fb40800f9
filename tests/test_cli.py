"""The command line as its users meet it: files in, files out, one-line errors, nothing half-written."""

import csv
import errno
import gzip
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from tests.test_estimator import mixed_table
from vsae_fast import VSAEImputer
from vsae_fast.cli import main

QUICK = ["--epochs", "2", "--n-models", "1", "--n-samples", "20"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments):
    """Run in this process; the exit status."""
    try:
        main(list(map(str, arguments)))
    except SystemExit as ended:
        return ended.code
    return 0


def write_csv(path, n_rows=80, seed=0, newline="\n"):
    """Texts that a round trip through numbers would change: zeros in front, zeros behind, quotes, separators."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=n_rows)
    rows = [
        [
            f"{170 + 8 * f:.2f}",
            str(round(20 + 5 * f)),
            f"{rng.integers(1, 4):03d}",
            "yes" if f > 0 else "no",
            ["Bern", "Oslo, NO", 'New "York"'][rng.integers(3)],
            "true" if f > 0.3 else "false",
        ]
        for f in factor
    ]
    for row in rows:
        for j in range(len(row)):
            if rng.random() < 0.25:
                row[j] = rng.choice(["", "NA", "NaN"])
    with Path(path).open("w", newline="") as file:
        csv.writer(file, lineterminator=newline).writerows(
            [["height", "count", "code", "smoker", "city", "tall"], *rows]
        )
    return rows


def read_csv(path):
    with Path(path).open(newline="") as file:
        header, *rows = csv.reader(file)
    return header, rows


def test_columns_that_mask_themselves():
    rng = np.random.default_rng(0)
    factor = rng.normal(size=400)
    table = pd.DataFrame(factor[:, None] + rng.normal(size=(400, 3)), columns=["income", "a", "b"])
    hidden = table["income"] > 0.5
    table.assign(income=table["income"].mask(hidden)).to_csv("in.csv", index=False)
    means = []
    for extra in ([], ["--self-masking", "income"]):
        assert call("impute", "in.csv", f"out{len(extra)}.csv", "--epochs", 30, "--n-models", 1, "--quiet", *extra) == 0
        means.append(pd.read_csv(f"out{len(extra)}.csv")["income"][hidden].mean())
    assert means[0] < 0.5 < means[1]


def test_csv_cells_stay_as_they_were_and_holes_are_filled(capsys):
    before = write_csv("in.csv")
    assert call("impute", "in.csv", "out.csv", "--schema", "code=categorical", *QUICK) == 0
    header, after = read_csv("out.csv")
    assert header == ["height", "count", "code", "smoker", "city", "tall"]
    known = {"code": set(), "smoker": set(), "city": set(), "tall": set()}
    for row in before:
        for name, cell in zip(header, row, strict=True):
            if name in known and cell not in ("", "NA", "NaN"):
                known[name].add(cell)
    n_filled = 0
    for row, completed in zip(before, after, strict=True):
        for name, cell, filled in zip(header, row, completed, strict=True):
            if cell not in ("", "NA", "NaN"):
                assert filled == cell
                continue
            n_filled += 1
            if name in known:
                assert filled in known[name]
            elif name == "count":
                assert str(int(filled)) == filled
            else:
                assert 100 < float(filled) < 250
                assert len(filled) <= 8
    out = capsys.readouterr()
    assert f"filled {n_filled} cells in 6 columns" in out.out
    assert out.out.count("\n") == 1
    assert [path.name for path in sorted(Path().iterdir())] == ["in.csv", "out.csv"]


@pytest.mark.parametrize("ending", ["parquet", "feather", "arrow", "tsv", "csv.gz"])
def test_formats(ending):
    table = mixed_table().assign(k=lambda t: t["k"].astype("category"))
    source = pa.Table.from_pandas(table.reset_index(drop=True), preserve_index=False)
    path, out = f"in.{ending}", f"out.{ending}"
    if ending == "parquet":
        pq.write_table(source, path)
    elif ending in ("feather", "arrow"):
        pyarrow.feather.write_feather(source, path)
    else:
        text = table.to_csv(index=False, sep="\t" if ending == "tsv" else ",")
        opener = gzip.open if ending.endswith("gz") else open
        with opener(path, "wt") as file:
            file.write(text)
    assert call("impute", path, out, "--quiet", *QUICK) == 0
    if ending == "parquet":
        result = pq.read_table(out)
        assert result.schema.equals(pq.read_table(path).schema, check_metadata=True)
    elif ending in ("feather", "arrow"):
        result = pyarrow.feather.read_table(out)
        assert result.schema.equals(source.schema)
    else:
        opener = gzip.open if ending.endswith("gz") else open
        with opener(out, "rt") as file:
            result = pa.Table.from_pandas(pd.read_csv(file, sep="\t" if ending == "tsv" else ","))
    assert result.num_rows == 120
    assert sum(column.null_count for column in result.columns) == 0


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_line_endings(newline):
    write_csv("in.csv", newline=newline)
    assert call("impute", "in.csv", "out.csv", *QUICK) == 0
    assert len(read_csv("out.csv")[1]) == 80


def test_mixed_line_endings_and_a_byte_order_mark():
    Path("in.csv").write_bytes("\ufeffa,b\r\n1.5,2\n2.5,\r\n,4\n3.5,6".encode())
    assert call("impute", "in.csv", "out.csv", *QUICK) == 0
    header, rows = read_csv("out.csv")
    assert header == ["a", "b"]
    assert [row[0] for row in rows][:2] == ["1.5", "2.5"]


def test_seed_decides_everything():
    write_csv("in.csv")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert call("impute", "in.csv", f"{name}.csv", "--seed", seed, *QUICK) == 0
    assert Path("a.csv").read_text() == Path("b.csv").read_text() != Path("c.csv").read_text()


def test_fit_then_impute_with_the_model(capsys):
    write_csv("in.csv")
    assert call("fit", "in.csv", "m.safetensors", *QUICK) == 0
    assert "trained" in capsys.readouterr().out
    assert call("impute", "in.csv", "a.csv", "--model", "m.safetensors") == 0
    assert call("impute", "in.csv", "b.csv", "--save-model", "n.safetensors", *QUICK) == 0
    assert Path("a.csv").read_text() == Path("b.csv").read_text()
    assert call("impute", "in.csv", "c.csv", "--model", "n.safetensors", "--n-samples", "20") == 0
    assert Path("c.csv").read_text() == Path("b.csv").read_text()
    assert VSAEImputer.load("n.safetensors").n_features_in_ == 6


def test_training_keeps_checkpoints_where_it_is_told_to():
    write_csv("in.csv")
    for out in ("a.csv", "b.csv"):
        assert call("impute", "in.csv", out, "--checkpoint-dir", "training", *QUICK) == 0
    assert list(Path("training").glob("network-*.safetensors"))
    assert Path("a.csv").read_text() == Path("b.csv").read_text()


def test_mask_file():
    write_csv("in.csv")
    whole = pd.read_csv("in.csv", dtype=str, keep_default_na=False)
    seen = ~whole.isin(["", "NA", "NaN"])
    hidden = seen.copy()
    hidden.loc[:9, "height"] = False
    hidden.astype(int).to_csv("mask.csv", index=False)
    assert call("impute", "in.csv", "out.csv", "--mask", "mask.csv", *QUICK) == 0
    result = pd.read_csv("out.csv", dtype=str)
    first = seen["height"][:10]
    assert (result["height"][:10][first] != whole["height"][:10][first]).all()
    assert result["height"][10:][seen["height"][10:]].equals(whole["height"][10:][seen["height"][10:]])


def test_draws_below_each_other(capsys):
    write_csv("in.csv")
    assert call("impute", "in.csv", "out.csv", "--n-imputations", 3, "--json", *QUICK) == 0
    result = pd.read_csv("out.csv", dtype={"code": str})
    assert result["imputation"].tolist() == [0] * 80 + [1] * 80 + [2] * 80
    assert result["code"].iloc[:80].notna().all()
    summary = json.loads(capsys.readouterr().out)
    assert summary["imputations"] == 3
    assert summary["rows"] == 80
    assert set(summary["filled"]) <= set(result.columns)


def test_ignored_columns_stay_in_their_place():
    rows = write_csv("in.csv")
    dated = [[f"2024-01-{1 + i % 28:02d}" if i % 7 else "", *row] for i, row in enumerate(rows)]
    with Path("dated.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["day", "height", "count", "code", "smoker", "city", "tall"], *dated])
    assert call("impute", "dated.csv", "out.csv", "--ignore", "day", *QUICK) == 0
    header, after = read_csv("out.csv")
    assert header[0] == "day"
    assert [row[0] for row in after] == [row[0] for row in dated]
    assert all(cell for row in after for cell in row[1:])


def test_further_texts_for_missing_cells():
    Path("in.csv").write_text("a,b\n1.5,x\n?,y\n2.5,-\n3.5,x\n")
    assert call("impute", "in.csv", "out.csv", "--na", "?", "--na", "-", *QUICK) == 0
    _, rows = read_csv("out.csv")
    assert 1.5 <= float(rows[1][0]) <= 3.5
    assert rows[2][1] in ("x", "y")


def test_schema(capsys):
    write_csv("in.csv")
    Path("kinds.json").write_text('{"count": "numerical"}')
    assert call("schema", "in.csv", "--schema", "code=categorical", "--schema", "kinds.json") == 0
    text = capsys.readouterr().out
    assert re.search(r"\d\.\d% +code +categorical \(given\) +3 levels: 1, 2, 3", text)
    assert "numerical (given)" in text
    assert "--schema COLUMN=" in text
    assert call("schema", "in.csv", "--json") == 0
    described = json.loads(capsys.readouterr().out)
    assert [column["kind"] for column in described["columns"]] == [
        "numerical", "integer", "integer", "categorical", "categorical", "boolean",
    ]  # fmt: skip


def test_evaluate(capsys):
    write_csv("in.csv", n_rows=300)
    assert call("evaluate", "in.csv", "--json", "--epochs", 30, "--hide", 0.3) == 0
    summary = json.loads(capsys.readouterr().out)
    assert set(summary["errors"]) == {"vsae_fast", "mean / mode", "median / mode"}
    assert 0 < summary["hidden"] < 300 * 6 * 0.75 * 0.4
    assert summary["errors"]["vsae_fast"]["nrmse"] < summary["errors"]["mean / mode"]["nrmse"]
    assert 0.9 < summary["errors"]["mean / mode"]["nrmse"] < 1.1
    assert call("evaluate", "in.csv", *QUICK) == 0
    assert "NRMSE" in capsys.readouterr().out


def test_bench_and_info(capsys):
    assert call("bench", "--rows", 100, "--columns", 3, "--repeats", 1, "--json") == 0
    timed = json.loads(capsys.readouterr().out)
    assert timed["cpu"]["rows_per_second"] > 0
    assert call("bench", "--rows", 100, "--columns", 3, "--repeats", 1) == 0
    assert "plain PyTorch" in capsys.readouterr().out
    assert call("info", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["processor"]["level"] in told["processor"]["levels"]
    assert told["libraries"]["torch"]
    assert call("info") == 0
    assert "backend='cpu': runs" in capsys.readouterr().out


# ---- what can go wrong ----------------------------------------------------------------------------------------------

BAD_FILES = {
    "absent": (None, "there is no file in.csv"),
    "empty": (b"", "in.csv is empty"),
    "header only": (b"a,b\n", "has a header but no rows"),
    "ragged": (b"a,b\n1,2\n3\n", "cannot be read as csv: CSV parse error: Expected 2 columns"),
    "repeated names": (b"a,b,a\n1,2,3\n", "several columns of one name: a; rename them"),
    "other separator": (b"a;b\n1;2\n", "it has one column, 'a;b'; pass --delimiter ';'"),
    "not utf-8": (b"a,b\n\xff\xfe,1\n", "column 'a' is not UTF-8 text"),
    "times of day": (b"at,b\n08:30:00,1\n", "'at' of in.csv holds times of day; pass --ignore 'at'"),
    "infinity": (b"a,b\ninf,1\n2,\n", "infinity in column(s) a"),
}


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.parametrize("command", ["impute", "fit", "schema", "evaluate"])
def test_bad_files(name, command, capsys):
    content, message = BAD_FILES[name]
    if content is not None:
        Path("in.csv").write_bytes(content)
    targets = {"impute": ["out.csv"], "fit": ["out.safetensors"]}.get(command, [])
    assert call(command, "in.csv", *targets) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    errors = [line for line in captured.err.splitlines() if "warning:" not in line]
    assert len(errors) == 1
    assert errors[0].startswith("vsae-fast: error: ")
    assert {path.name for path in Path().iterdir()} <= {"in.csv"}


@pytest.mark.parametrize("ending", ["parquet", "feather"])
def test_damaged_binary_files(ending, capsys):
    Path(f"in.{ending}").write_bytes(b"hello, this is no table")
    assert call("schema", f"in.{ending}") == 1
    assert f"in.{ending} cannot be read as {ending}" in capsys.readouterr().err


BAD_CALLS = {
    "no such command": (["inpute"], 2, "No such command 'inpute'"),
    "no target": (["impute", "in.csv"], 2, "Missing argument 'OUT'"),
    "kind of file": (["impute", "in.csv", "out.xlsx"], 1, "out.xlsx has no ending that tells its format; use .csv"),
    "kind of source": (["impute", "in.dat", "out.csv"], 1, "in.dat has no ending"),
    "target exists": (["impute", "in.csv", "in.csv"], 1, "in.csv exists; pass --overwrite"),
    "no folder": (["impute", "in.csv", "there/out.csv"], 1, "there is no folder there"),
    "folder as target": (["impute", "in.csv", "folder.csv"], 1, "folder.csv is a folder"),
    "folder as source": (["impute", "folder.csv", "out.csv"], 1, "there is no Parquet file at folder.csv"),
    "model exists": (["impute", "in.csv", "out.csv", "--save-model", "in.csv"], 1, "in.csv exists"),
    "folder to fit": (["fit", "folder.csv", "m"], 1, "folder.csv is no file"),
    "no model": (["impute", "in.csv", "out.csv", "--model", "m"], 1, "there is no file m"),
    "no model file": (["impute", "in.csv", "out.csv", "--model", "in.csv"], 1, "not a vsae_fast model file"),
    "model and schema": (["impute", "in.csv", "o.csv", "--model", "m", "--schema", "a=integer"], 2, "leave --schema"),
    "model and bootstrap": (["impute", "in.csv", "o.csv", "--model", "m", "--bootstrap"], 2, "leave --bootstrap out"),
    "self-masking": (["impute", "in.csv", "o.csv", "--self-masking", "hight"], 1, "there is no column 'hight'"),
    "schema text": (["schema", "in.csv", "--schema", "height"], 2, "neither COLUMN=KIND nor a .json file"),
    "schema file": (["schema", "in.csv", "--schema", "no.json"], 2, "there is no file no.json"),
    "schema json": (["schema", "in.csv", "--schema", "bad.json"], 2, "bad.json is no JSON"),
    "schema list": (["schema", "in.csv", "--schema", "list.json"], 2, "one object of column to kind"),
    "schema column": (["schema", "in.csv", "--schema", "hight=integer"], 1, "no column 'hight'; columns are"),
    "schema kind": (["schema", "in.csv", "--schema", "height=ordinal"], 1, "kind 'ordinal'; use one of"),
    "ignored column": (["schema", "in.csv", "--ignore", "hight"], 1, "--ignore 'hight': in.csv has no such column"),
    "all ignored": (["schema", "one.csv", "--ignore", "a"], 1, "every column is ignored"),
    "mask columns": (
        ["impute", "in.csv", "out.csv", "--mask", "one.csv"],
        1,
        "the mask one.csv has no column 'height'",
    ),
    "mask shape": (["impute", "in.csv", "out.csv", "--mask", "short.csv"], 1, "mask has shape (1, 6)"),
    "hide": (["evaluate", "in.csv", "--hide", "1"], 2, "Invalid value for '--hide'"),
    "device": (["impute", "in.csv", "out.csv", "--device", "gpu"], 1, "unknown device 'gpu'"),
    "n_imputations": (["impute", "in.csv", "out.csv", "--n-imputations", "0"], 2, "--n-imputations"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_calls(name, capsys):
    arguments, status, message = BAD_CALLS[name]
    write_csv("in.csv")
    Path("folder.csv").mkdir()
    Path("bad.json").write_text("{")
    Path("list.json").write_text("[]")
    Path("one.csv").write_text("a\n1\n2\n")
    Path("short.csv").write_text("height,count,code,smoker,city,tall\n1,1,1,1,1,1\n")
    before = {path.name for path in Path().iterdir()}
    assert call(*arguments) == status
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert {path.name for path in Path().iterdir()} == before


def test_other_columns_than_the_model(capsys):
    write_csv("in.csv")
    Path("other.csv").write_text("a,b\n1,2\n,3\n")
    assert call("fit", "in.csv", "m", *QUICK) == 0
    assert call("impute", "other.csv", "out.csv", "--model", "m") == 1
    assert "feature names" in capsys.readouterr().err
    assert not Path("out.csv").exists()


def test_a_full_disk_leaves_nothing_and_keeps_what_was_there(monkeypatch, capsys):
    write_csv("in.csv")
    Path("out.csv").write_text("precious")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("vsae_fast.cli.table_file.os.fsync", full)
    assert call("impute", "in.csv", "out.csv", "--overwrite", *QUICK) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert Path("out.csv").read_text() == "precious"
    assert {path.name for path in Path().iterdir()} == {"in.csv", "out.csv"}


def test_a_folder_that_cannot_be_written_to(monkeypatch, capsys):
    write_csv("in.csv")
    monkeypatch.setattr("vsae_fast.cli.table_file.os.access", lambda path, mode: mode != os.W_OK)  # root may
    assert call("impute", "in.csv", "out.csv") == 1
    assert "cannot be written to; choose another" in capsys.readouterr().err


def test_without_pyarrow(monkeypatch, capsys):
    write_csv("in.csv")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert call("schema", "in.csv") == 1
    assert "pip install 'vsae_fast[files]'" in capsys.readouterr().err


def test_warnings_are_one_line_each(capsys):
    Path("in.csv").write_text("a,b,c\n1.5,,3\n2.5,,3\n,,3\n")
    assert call("impute", "in.csv", "out.csv", *QUICK) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("vsae-fast: warning: Columns kept out of the model")
    assert [row[1] for row in read_csv("out.csv")[1]] == ["0", "0", "0"]


def test_one_row(capsys):
    Path("in.csv").write_text("a,b\n1.5,\n")
    assert call("impute", "in.csv", "out.csv") == 0
    assert read_csv("out.csv") == (["a", "b"], [["1.5", "0"]])


def test_many_columns(capsys):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(30, 5000)).round(2)).mask(rng.random((30, 5000)) < 0.1)
    table.columns = [f"c{j}" for j in range(5000)]
    table.to_csv("in.csv", index=False)
    assert call("schema", "in.csv", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["columns"]) == 5000
    table.iloc[:, :800].to_csv("in.csv", index=False)  # 5,000 take 40 s
    assert call("impute", "in.csv", "out.csv", "--epochs", 1, "--n-models", 1, "--n-samples", 5, "--quiet") == 0
    assert not pd.read_csv("out.csv").isna().any(axis=None)
