"""Parquet in, Parquet out: nothing lost, nothing half-written, the same bytes however often a run is cut off."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vsae_fast import VSAEImputer, impute_parquet

QUICK = {"epochs": 2, "n_models": 1, "n_samples": 20}


def make_table(n_rows, seed=0):
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=n_rows)
    columns = {
        "a": pa.array(factor + rng.normal(size=n_rows), mask=rng.random(n_rows) < 0.2),
        "n": pa.array(np.round(10 * factor).astype(np.int32), mask=rng.random(n_rows) < 0.2),
        "k": pa.array(np.where(factor > 0, "up", "down"), mask=rng.random(n_rows) < 0.2),
        "full": pa.array(rng.normal(size=n_rows)),
    }
    return pa.table(columns).replace_schema_metadata({"made by": "hand"})


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.parquet"
    pq.write_table(make_table(1000), path, row_group_size=150, compression={"a": "zstd", "n": "gzip"})
    return path


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "data"
    for i, name in enumerate(("year=2023/a.parquet", "year=2024/a.parquet", "year=2024/b.parquet")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(make_table(200, seed=i), root / name, row_group_size=80)
    return root


@pytest.fixture(scope="module")
def model():
    return VSAEImputer(random_state=0, **QUICK).fit(make_table(300))


def files_below(path):
    return sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())


def test_one_file_keeps_everything(source, model, tmp_path):
    before, target = source.read_bytes(), tmp_path / "out.parquet"
    report = impute_parquet(source, target, model)
    assert source.read_bytes() == before
    old, new = pq.read_table(source), pq.read_table(target)
    assert new.schema.equals(old.schema, check_metadata=True)
    assert new.equals(model.transform(old))
    assert sum(column.null_count for column in new.columns) == 0
    was, now = pq.read_metadata(source), pq.read_metadata(target)
    assert [now.row_group(i).num_rows for i in range(now.num_row_groups)] == [150] * 6 + [100]
    for i in range(4):
        assert now.row_group(0).column(i).compression == was.row_group(0).column(i).compression
    assert report.filled == {name: old[name].null_count for name in ("a", "n", "k")}
    assert (report.files, report.row_groups, report.rows, report.resumed) == (1, 7, 1000, 0)
    assert files_below(tmp_path) == ["in.parquet", "out.parquet"]


def test_training_on_a_sample(source, tmp_path):
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    impute_parquet(source, one, max_train_rows=200, random_state=3, **QUICK)
    impute_parquet(source, two, max_train_rows=200, random_state=3, **QUICK)
    assert one.read_bytes() == two.read_bytes()
    impute_parquet(source, two, max_train_rows=200, random_state=4, overwrite=True, **QUICK)
    assert one.read_bytes() != two.read_bytes()


def test_folders_keep_their_partitions(folder, model, tmp_path):
    seen = []
    report = impute_parquet(folder, tmp_path / "out", model, progress=lambda *done: seen.append(done))
    assert files_below(tmp_path / "out") == files_below(folder)
    assert seen == [(i, 9) for i in range(1, 10)]
    assert report.files == 3
    for name in files_below(folder):
        expected = model.transform(pq.ParquetFile(folder / name).read())
        assert pq.ParquetFile(tmp_path / "out" / name).read().equals(expected)


def test_a_pattern(folder, model, tmp_path):
    impute_parquet(folder / "year=2024" / "*.parquet", tmp_path / "out", model)
    assert files_below(tmp_path / "out") == ["a.parquet", "b.parquet"]
    with pytest.raises(ValueError, match="files of one name in several folders"):
        impute_parquet(folder / "*" / "*.parquet", tmp_path / "other", model)


def test_folders_called_key_value_add_no_column(source, model, tmp_path):
    target = tmp_path / "year=2024" / "out.parquet"
    impute_parquet(source, target, model)
    assert pq.ParquetFile(target).schema_arrow.names == ["a", "n", "k", "full"]


def test_a_saved_model_and_options_of_this_run(source, model, tmp_path):
    model.save(tmp_path / "m")
    impute_parquet(source, tmp_path / "a.parquet", tmp_path / "m")
    impute_parquet(source, tmp_path / "b.parquet", model)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    impute_parquet(source, tmp_path / "c.parquet", model, n_samples=40)
    assert (tmp_path / "c.parquet").read_bytes() != (tmp_path / "b.parquet").read_bytes()


def test_ignored_columns_stay(source, tmp_path):
    table = pq.read_table(source)
    times = pa.array(np.arange(1000, dtype=np.int32), pa.time32("ms"))
    timed = tmp_path / "timed.parquet"
    pq.write_table(table.add_column(1, "at", times), timed, row_group_size=400)
    with pytest.raises(ValueError, match=r"'at' holds times of day; pass ignore=\['at'\]"):
        impute_parquet(timed, tmp_path / "out.parquet", **QUICK)
    impute_parquet(timed, tmp_path / "out.parquet", ignore=["at"], **QUICK)
    result = pq.read_table(tmp_path / "out.parquet")
    assert result.column_names == ["a", "at", "n", "k", "full"]
    assert result["at"].combine_chunks().equals(times)
    assert sum(column.null_count for column in result.columns) == 0
    with pytest.raises(ValueError, match="ignore names 'month'"):
        impute_parquet(timed, tmp_path / "o", ignore=["month"])
    with pytest.raises(ValueError, match="every column is ignored"):
        impute_parquet(source, tmp_path / "o", ignore=table.column_names)


def test_a_failed_training_leaves_nothing_behind(source, tmp_path):
    with pytest.raises(ValueError, match="unknown preset 'best'"):
        impute_parquet(source, tmp_path / "out.parquet", preset="best")
    assert files_below(tmp_path) == ["in.parquet"]


# ---- cut off and taken up again -------------------------------------------------------------------------------------


class CutOffError(Exception):
    pass


def cut_off_after(n):
    def progress(done, total):
        if done == n:
            raise CutOffError

    return progress


@pytest.mark.parametrize("n", [1, 4, 7])
def test_a_run_goes_on_and_ends_with_the_same_bytes(source, tmp_path, n):
    options = {"max_train_rows": 200, **QUICK}
    impute_parquet(source, tmp_path / "whole.parquet", **options)
    target = tmp_path / "out.parquet"
    with pytest.raises(CutOffError):
        impute_parquet(source, target, progress=cut_off_after(n), **options)
    assert not target.exists()
    report = impute_parquet(source, target, **options)
    assert report.resumed in (n - 1, n)  # the last one may not have been written yet
    assert target.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert report.filled == {name: pq.read_table(source)[name].null_count for name in ("a", "n", "k")}
    assert files_below(tmp_path) == ["in.parquet", "out.parquet", "whole.parquet"]


def test_killed_at_any_moment(source, tmp_path):
    """SIGKILL after an eighth, two eighths ... of a whole run's time, until a run comes to its end."""
    code = (
        "import sys, vsae_fast\n"
        "from vsae_fast import impute_parquet\n"
        "print('ready', flush=True)\n"
        "impute_parquet(*sys.argv[1:], max_train_rows=200, epochs=20, n_models=1, n_samples=200)\n"
    )
    options = {"max_train_rows": 200, "epochs": 20, "n_models": 1, "n_samples": 200}
    impute_parquet(source, tmp_path / "whole.parquet", **options)  # what is loaded once is no part of the time
    begin = time.perf_counter()
    impute_parquet(source, tmp_path / "whole.parquet", overwrite=True, **options)
    eighth = (time.perf_counter() - begin) / 8
    target, n_kills = tmp_path / "out.parquet", 0
    while not target.exists():
        command = [sys.executable, "-c", code, str(source), str(target)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        time.sleep(eighth * (1 + n_kills))
        process.send_signal(signal.SIGKILL)
        process.wait()
        n_kills += 1
        assert n_kills < 40
    impute_parquet(source, target, overwrite=True, **options)  # also clears what the last kill may have left
    assert n_kills >= 2
    assert target.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert files_below(tmp_path) == ["in.parquet", "out.parquet", "whole.parquet"]


def unfinished(source, tmp_path, model):
    target = tmp_path / "out.parquet"
    with pytest.raises(CutOffError):
        impute_parquet(source, target, model, progress=cut_off_after(4))
    return target, tmp_path / ".out.parquet.vsae_fast"


def test_another_input_model_or_option_is_refused(source, tmp_path, model):
    target, _ = unfinished(source, tmp_path, model)
    other = VSAEImputer(random_state=1, **QUICK).fit(make_table(300))
    with pytest.raises(ValueError, match="had another model; pass restart=True"):
        impute_parquet(source, target, other)
    with pytest.raises(ValueError, match="had another options; pass restart=True"):
        impute_parquet(source, target, model, n_samples=7)
    time.sleep(0.01)
    os.utime(source)
    with pytest.raises(ValueError, match="had another source; pass restart=True"):
        impute_parquet(source, target, model)
    assert impute_parquet(source, target, model, restart=True).resumed == 0
    assert pq.read_table(target).equals(model.transform(pq.read_table(source)))


def test_a_kill_while_a_target_is_put_together_leaves_nothing_beside_it(source, tmp_path, model, monkeypatch):
    """The temporary file of a process that cannot clean up lies in the work folder."""
    target, seen = tmp_path / "out.parquet", []

    def look(path):
        if "out.parquet" in path.name:
            seen.append(path.parent)

    monkeypatch.setattr("vsae_fast.whole_file.sync", look)
    impute_parquet(source, target, model)
    assert seen == [tmp_path / ".out.parquet.vsae_fast"]


def test_damaged_parts_are_done_again(source, tmp_path, model):
    target, work = unfinished(source, tmp_path, model)
    parts = sorted(work.glob("*-*.parquet"))
    parts[0].write_bytes(parts[0].read_bytes()[:-9])
    parts[1].unlink()
    log = work / "done.jsonl"
    log.write_text(log.read_text() + '{"part": "0000')  # cut off in the middle of a line
    report = impute_parquet(source, target, model)
    assert report.resumed == len(parts) - 2
    assert pq.read_table(target).equals(model.transform(pq.read_table(source)))


def test_an_altered_model_is_noticed(source, tmp_path, model):
    target, work = unfinished(source, tmp_path, model)
    VSAEImputer(random_state=5, **QUICK).fit(make_table(300)).save(work / "model.safetensors", overwrite=True)
    with pytest.raises(ValueError, match="the model of the unfinished run was altered"):
        impute_parquet(source, target, model)


def test_a_second_run_on_one_target_is_refused(source, tmp_path, model):
    target = tmp_path / "out.parquet"
    refused = []

    def again(done, total):
        for restart in (False, True):
            with pytest.raises(BlockingIOError, match="another run is at work"):
                impute_parquet(source, target, model, restart=restart)
        refused.append(done)

    impute_parquet(source, target, model, progress=again)
    assert len(refused) == 7


def test_a_full_disk_leaves_no_target_and_can_go_on(source, tmp_path, model, monkeypatch):
    target = tmp_path / "out.parquet"

    def full_for_parts(path):
        if path.name.startswith(".0000"):
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("vsae_fast.whole_file.sync", full_for_parts)
        with pytest.raises(OSError, match="No space left"):
            impute_parquet(source, target, model)
    assert not target.exists()
    impute_parquet(source, target, model)
    assert pq.read_table(target).equals(model.transform(pq.read_table(source)))


# ---- bad input ------------------------------------------------------------------------------------------------------


def test_bad_sources_and_targets(source, folder, model, tmp_path):
    out = tmp_path / "out.parquet"
    with pytest.raises(FileNotFoundError, match="there is no Parquet file at"):
        impute_parquet(tmp_path / "nowhere*", out, model)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="there is no Parquet file at"):
        impute_parquet(tmp_path / "empty", out, model)
    with pytest.raises(ValueError, match="is a folder and the source is one file"):
        impute_parquet(source, tmp_path / "empty", model)
    with pytest.raises(FileExistsError, match="is a file and the source is several"):
        impute_parquet(folder, source, model)
    with pytest.raises(ValueError, match="lies in the source"):
        impute_parquet(source, source, model, overwrite=True)
    with pytest.raises(ValueError, match="lies in the source"):
        impute_parquet(folder, folder / "done", model)
    out.write_text("precious")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        impute_parquet(source, out, model)
    assert out.read_text() == "precious"
    (tmp_path / "text.parquet").write_text("hello, no table here")
    with pytest.raises(ValueError, match=r"text\.parquet cannot be read as Parquet"):
        impute_parquet(tmp_path / "text.parquet", tmp_path / "o", model)
    assert not list(tmp_path.glob(".*"))


def test_files_that_differ(folder, model, tmp_path):
    odd = folder / "year=2025" / "a.parquet"
    odd.parent.mkdir()
    pq.write_table(make_table(50).drop_columns("k"), odd)
    with pytest.raises(ValueError, match="differ in column 'k'"):
        impute_parquet(folder, tmp_path / "out", model)
    table = make_table(50)
    pq.write_table(table.set_column(1, "n", table["n"].cast(pa.float64())), odd)
    with pytest.raises(ValueError, match="differ in the type of column 'n': double and int32"):
        impute_parquet(folder, tmp_path / "out", model)
    pq.write_table(table.slice(0, 0), odd)
    impute_parquet(folder, tmp_path / "out", model)  # a file without rows among others is no error
    assert pq.read_table(tmp_path / "out" / "year=2025" / "a.parquet").num_rows == 0


def test_a_damaged_row_group_is_named(source, model, tmp_path):
    damage(source, 2)
    with pytest.raises(ValueError, match=r"row group 2 of .*in\.parquet cannot be read"):
        impute_parquet(source, tmp_path / "out.parquet", model)


def damage(path, group):
    """Overwrite a part of one row group."""
    content = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(group).column(0).data_page_offset
    content[start : start + 200] = bytes(200)
    path.write_bytes(content)


@pytest.mark.parametrize("trained", [True, False], ids=["model", "training"])
def test_damaged_row_groups_are_left_out_when_asked(source, model, tmp_path, trained):
    whole = pq.read_table(source)
    damage(source, 2)
    target = tmp_path / "out.parquet"
    options = {} if trained else {"max_train_rows": 300, **QUICK}
    report = impute_parquet(source, target, model if trained else None, on_error="skip", **options)
    assert len(report.skipped) == 1
    assert report.skipped[0].startswith(f"row group 2 of {source} cannot be read")
    assert (report.rows, report.row_groups) == (850, 6)
    result = pq.read_table(target)
    assert result.num_rows == 850
    if trained:
        rest = pa.concat_tables([whole.slice(0, 300), whole.slice(450)])
        assert result.equals(model.transform(rest).replace_schema_metadata(result.schema.metadata))
        assert report.filled == {name: rest[name].null_count for name in ("a", "n", "k")}


def test_a_run_with_damaged_parts_goes_on_and_ends_with_the_same_bytes(source, model, tmp_path):
    damage(source, 2)
    impute_parquet(source, tmp_path / "whole.parquet", model, on_error="skip")
    target = tmp_path / "out.parquet"
    with pytest.raises(CutOffError):
        impute_parquet(source, target, model, on_error="skip", progress=cut_off_after(5))
    with pytest.raises(ValueError, match="had another options"):
        impute_parquet(source, target, model)
    report = impute_parquet(source, target, model, on_error="skip")
    assert len(report.skipped) == 1
    assert target.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_damaged_files_are_left_out_when_asked(folder, model, tmp_path):
    (folder / "year=2023" / "a.parquet").write_bytes(b"no Parquet")
    with pytest.raises(ValueError, match=r"a\.parquet cannot be read as Parquet"):
        impute_parquet(folder, tmp_path / "out", model)
    report = impute_parquet(folder, tmp_path / "out", model, on_error="skip")
    assert files_below(tmp_path / "out") == ["year=2024/a.parquet", "year=2024/b.parquet"]
    assert "year=2023" in report.skipped[0]
    assert report.files == 2


def test_nothing_readable_is_an_error_all_the_same(source, model, tmp_path):
    for group in range(7):
        damage(source, group)
    with pytest.raises(ValueError, match=r"row group . of .* cannot be read"):
        impute_parquet(source, tmp_path / "a.parquet", on_error="skip", **QUICK)
    report = impute_parquet(source, tmp_path / "b.parquet", model, on_error="skip")
    assert report.rows == 0
    assert pq.read_table(tmp_path / "b.parquet").schema.names == ["a", "n", "k", "full"]
    source.write_bytes(b"gone")
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        impute_parquet(source, tmp_path / "c.parquet", model, on_error="skip")
    with pytest.raises(ValueError, match="unknown on_error 'ignore'; use 'raise' or 'skip'"):
        impute_parquet(source, tmp_path / "c.parquet", model, on_error="ignore")


def test_the_log_is_plain_json(source, tmp_path, model):
    _, work = unfinished(source, tmp_path, model)
    lines = [json.loads(line) for line in (work / "done.jsonl").read_text().splitlines()]
    assert lines[0]["format"] == 1
    assert {Path(line["part"]).suffix for line in lines[2:]} == {".parquet"}
