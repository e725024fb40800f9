"""The command line in a process of its own: how soon it answers, what it prints where, and what an interrupt leaves."""

import io
import resource
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.test_cli import QUICK, call, write_csv


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMAND = [sys.executable, "-m", "vsae_fast"]


def seconds_of_children():
    """The processor's seconds, not the clock's: those do not grow with what else runs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_comes_at_once():
    times = []
    for _ in range(3):
        begin = seconds_of_children()
        done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True, timeout=60)
        times.append(seconds_of_children() - begin)
    assert statistics.median(times) < 0.5
    for command in ("impute", "fit", "schema", "evaluate", "bench", "info"):
        assert command in done.stdout


def test_installed_script():
    script = Path(sys.executable).parent / "vsae-fast"
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("vsae-fast, version ")


def test_nothing_is_printed_in_a_pipe_with_quiet():
    write_csv("in.csv")
    command = [*COMMAND, "impute", "in.csv", "out.csv", "--quiet", *QUICK]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == done.stderr == ""


def test_an_interrupt_leaves_nothing_half_written(folder):
    write_csv("in.csv", n_rows=2000)
    command = [*COMMAND, "impute", "in.csv", "out.csv", "--epochs", "100000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(8)  # in the middle of the training
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "vsae-fast: interrupted; no file was left half-written"
    assert "Traceback" not in err
    assert out == ""
    assert [path.name for path in folder.iterdir()] == ["in.csv"]


def test_progress_is_shown_on_a_terminal_alone(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    write_csv("in.csv")
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        assert call("impute", "in.csv", "out.csv", "--overwrite", *QUICK) == 0
        assert ("training: " in stream.getvalue()) is shown
