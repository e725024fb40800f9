"""A machine that changes under a run: its clock, time zone and locale, and a target that cannot be written to."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.test_stream import CutOffError, cut_off_after, make_table
from vsae_fast import VSAEImputer, checkpoints, impute_parquet

QUICK = {"epochs": 3, "n_models": 1, "n_samples": 20}
# Texts that ASCII has not, in names, levels and paths; a locale that knows ASCII alone and no UTF-8 mode.
FOREIGN = """
import sys
from vsae_fast.cli import main
source, target, checkpoints = sys.argv[1:]
main(["impute", source, target, "--epochs", "2", "--n-models", "1", "--json", "--checkpoint-dir", checkpoints])
"""


@pytest.fixture
def source(tmp_path):
    pq.write_table(make_table(400), tmp_path / "in.parquet", row_group_size=100)
    return tmp_path / "in.parquet"


@pytest.fixture
def zone():
    """Put the time zone back."""
    before = os.environ.get("TZ")
    yield
    os.environ.pop("TZ", None) if before is None else os.environ.__setitem__("TZ", before)
    time.tzset()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="no time zones to set there")
@pytest.mark.parametrize("years", [-30, 30])
def test_a_run_goes_on_after_the_clock_was_set(source, tmp_path, years, monkeypatch, zone):
    impute_parquet(source, tmp_path / "whole.parquet", **QUICK)
    with pytest.raises(CutOffError):
        impute_parquet(source, tmp_path / "out.parquet", progress=cut_off_after(2), **QUICK)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + years * 365 * 86_400)
    os.environ["TZ"] = "Asia/Kathmandu"
    time.tzset()
    report = impute_parquet(source, tmp_path / "out.parquet", **QUICK)
    assert report.resumed == 2
    assert 0 <= report.seconds < 60
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_clock_that_jumps_changes_no_training(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    table = make_table(300)
    whole = VSAEImputer(random_state=0, max_time=600, **QUICK).fit(table)
    now, jump = time.time, [0.0]

    def jumping():
        jump[0] += 1e6
        return now() - jump[0]

    monkeypatch.setattr(time, "time", jumping)
    imputer = VSAEImputer(random_state=0, max_time=600, checkpoint_dir=tmp_path, **QUICK).fit(table)
    assert imputer.history_ == whole.history_


def test_a_locale_of_ascii_alone(tmp_path):
    (tmp_path / "größe").mkdir()
    source = tmp_path / "größe" / "in.csv"
    lines = [f"{i % 7},{'süß' if i % 3 else 'salé'},{i % 5 or ''}" for i in range(200)]
    source.write_text("\n".join(["maß,geschmack,größe", *lines]) + "\n", encoding="utf-8")
    results = []
    for name, changes in (
        ("utf8", {"PYTHONUTF8": "1"}),
        ("ascii", {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    ):
        out = tmp_path / "größe" / f"{name}.csv"
        call = [sys.executable, "-c", FOREIGN, source, out, tmp_path / f"ü{name}"]
        done = subprocess.run(call, env={**os.environ, **changes}, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        results.append(out.read_bytes())
    assert results[0] == results[1]
    assert results[0].decode().startswith("maß,geschmack,größe\n")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_target_that_cannot_be_written_to_is_named(source, tmp_path, number, monkeypatch):
    make = Path.mkdir

    def refuse(self, *arguments, **options):
        if self.name.startswith(".out"):
            raise OSError(number, os.strerror(number), str(self))
        make(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(PermissionError, match=r"cannot be written to; choose another target") as error:
        impute_parquet(source, tmp_path / "out.parquet", **QUICK)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]
