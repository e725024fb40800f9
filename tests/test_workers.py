"""Row groups given out to workers that die, start late or never: none is lost, and the right one is blamed."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from itertools import count
from pathlib import Path

import pytest

from tests.test_stream import make_table
from vsae_fast import VSAEImputer, impute_parquet
from vsae_fast.device_parts import device_parts
from vsae_fast.impute_table import ImputeTable
from vsae_fast.parquet_parts import Part, Todo
from vsae_fast.parquet_source import ParquetFiles, find_files
from vsae_fast.workers import IN_FLIGHT, MOST_DEATHS, WorkerDiedError, completed_by

pq = pytest.importorskip("pyarrow.parquet")
QUICK = {"epochs": 2, "n_models": 1, "n_samples": 20}
TODO = [Todo(0, group, str(group)) for group in range(12)]


class ScriptedPool:
    """Workers without processes: each step finishes what one of them is at, or kills it.

    Parameters
    ----------
    deadly : set of str
        Row groups that kill who does them.
    idle : set of int
        Places whose workers never come up.
    lives : dict of int to int
        Row groups that the first worker of a place does before it dies for no reason.
    """

    def __init__(self, deadly=(), idle=(), lives=None, fatal_start=()):
        self.deadly, self.idle, self.lives, self.fatal_start = set(deadly), set(idle), dict(lives or {}), fatal_start
        self.queues, self.outcome, self.places = {}, {}, {}
        self.numbers, self.most, self.stopped = count(), 0, []

    def start(self, place):
        worker = f"worker {len(self.places) + 1}"
        self.places[worker], self.queues[worker] = place, deque()
        return worker, self.submit(worker, None)

    def submit(self, worker, item):
        future = next(self.numbers)
        self.queues[worker].append((future, item))
        self.most = max(self.most, len(self.queues[worker]))
        return future

    def _kills(self, item, place):
        """Whether a worker in this place dies at its start (None) or at a row group."""
        if item is None:
            return place in self.fatal_start
        lives = self.lives.get(place)
        if lives is not None:
            self.lives[place] = lives - 1 if lives else None
        return item.name in self.deadly or lives == 0

    def _step(self, worker):
        """Finish what a worker is at, or kill it with all that it has; whether anything happened."""
        queue, place = self.queues[worker], self.places[worker]
        if not queue or (place in self.idle and queue[0][1] is None):
            return False
        if self._kills(queue[0][1], place):
            self.outcome |= {future: WorkerDiedError() for future, _ in queue}
            queue.clear()
        else:
            future, item = queue.popleft()
            self.outcome[future] = item and Part(item.name, "", {})
        return True

    def wait(self, futures, seconds):
        if not any(future in self.outcome for future in futures):
            any(self._step(worker) for worker in sorted(self.queues, key=lambda w: -len(self.queues[w])))
        # The worst order: what was behind is heard of first.
        return [future for future in futures if future in self.outcome][-1:]

    def result(self, future):
        outcome = self.outcome.get(future, WorkerDiedError())
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def stop(self, worker):
        self.stopped.append(worker)


FILES = ParquetFiles((Path("in.parquet"),), None, single=True)


def names(pool, n_workers=3):
    return Counter(part.name for part in completed_by(pool, n_workers, FILES, TODO))


@pytest.mark.parametrize("n_workers", [1, 2, 5, 40])
def test_every_row_group_is_done_once(n_workers):
    pool = ScriptedPool()
    assert names(pool, n_workers) == Counter(item.name for item in TODO)
    assert pool.most <= IN_FLIGHT
    assert sorted(set(pool.stopped)) == sorted(pool.queues)  # nobody is left at work


@pytest.mark.parametrize("lives", [{0: 0}, {0: 1, 1: 3}, {0: 2, 1: 2, 2: 2}])
def test_what_a_dead_worker_had_is_done_by_others(lives):
    pool = ScriptedPool(lives=lives)
    assert names(pool) == Counter(item.name for item in TODO)
    assert len(pool.places) == 3 + len(lives)  # each was replaced


def test_a_worker_that_never_comes_up_holds_nothing_up(caplog):
    assert names(ScriptedPool(idle={0, 2})) == Counter(item.name for item in TODO)


@pytest.mark.parametrize("n_workers", [1, 2, 3])
@pytest.mark.parametrize("deadly", ["0", "1", "7", "11"])
def test_the_row_group_that_kills_is_blamed(deadly, n_workers):
    pool = ScriptedPool(deadly={deadly})
    done = []
    with pytest.raises(RuntimeError, match=rf"row group {deadly} of in\.parquet: {MOST_DEATHS} workers died at it"):
        done.extend(part.name for part in completed_by(pool, n_workers, FILES, TODO))
    assert deadly not in done
    assert len(pool.places) == n_workers + MOST_DEATHS - 1
    assert set(pool.stopped) == set(pool.queues)


def test_workers_that_die_as_they_start():
    with pytest.raises(RuntimeError, match="loading the model: 3 workers died at it; give them more memory"):
        names(ScriptedPool(fatal_start={0, 1, 2}))


def test_a_pool_that_stays_silent_is_told(caplog, monkeypatch):
    class Late(ScriptedPool):
        looks = 0

        def wait(self, futures, seconds):
            self.looks += 1
            return super().wait(futures, seconds) if self.looks > 3 else []

    assert names(Late(), 1) == Counter(item.name for item in TODO)
    assert sum("no worker is up yet" in record.message for record in caplog.records) == 3


# ---- processes ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    return VSAEImputer(random_state=0, **QUICK).fit(make_table(300))


@pytest.fixture
def source(tmp_path):
    pq.write_table(make_table(1000), tmp_path / "in.parquet", row_group_size=100)
    return tmp_path / "in.parquet"


def test_a_process_for_each_device_gives_the_same_bytes(source, model, tmp_path):
    impute_parquet(source, tmp_path / "one.parquet", model)
    report = impute_parquet(source, tmp_path / "two.parquet", model, devices=["cpu", "cpu"])
    assert (report.rows, report.row_groups) == (1000, 10)
    assert (tmp_path / "two.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "one.parquet", "two.parquet"]


class Suicidal(ImputeTable):
    """Kills its process at one table, once."""

    def __init__(self, model, first, flag, **params):
        super().__init__(model, **params)
        self.first, self.flag = first, flag

    def complete(self, table):
        if table["full"][0].as_py() == self.first and not self.flag.exists():
            self.flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().complete(table)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_a_process_that_is_killed_is_replaced(source, model, tmp_path, monkeypatch):
    first = make_table(1000)["full"][400].as_py()
    flag = tmp_path / "killed"
    monkeypatch.setattr(
        "vsae_fast.device_parts.ImputeTable",
        lambda imputer, ignore, **params: Suicidal(imputer, first, flag, ignore=ignore, **params),
    )
    todo = [Todo(0, group, f"{group}.parquet") for group in range(10)]
    parts = list(device_parts(find_files(source), model, (), tmp_path, todo, devices=["cpu", "cpu"]))
    assert flag.exists()
    assert sorted(part.name for part in parts) == sorted(item.name for item in todo)


ORPHANS = """
import os, sys
from vsae_fast import impute_parquet
def progress(done, total):
    import multiprocessing
    print(*[child.pid for child in multiprocessing.active_children()], flush=True)
    os.kill(os.getpid(), 9)
if __name__ == "__main__":
    impute_parquet(*sys.argv[1:], devices=["cpu", "cpu"], progress=progress)
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at /proc")
def test_processes_end_with_the_one_that_started_them(source, model, tmp_path):
    model.save(tmp_path / "m")
    (tmp_path / "run.py").write_text(ORPHANS)
    call = [sys.executable, tmp_path / "run.py", source, tmp_path / "out.parquet", tmp_path / "m"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == -9
    children = [int(pid) for pid in done.stdout.split()]
    assert len(children) == 2

    def alive(pid):
        status = Path(f"/proc/{pid}/status")
        return status.exists() and "State:\tZ" not in status.read_text()

    for _ in range(100):
        if not any(map(alive, children)):
            break
        time.sleep(0.1)
    assert not any(map(alive, children))
    report = impute_parquet(source, tmp_path / "out.parquet", tmp_path / "m", devices=["cpu"])  # and goes on
    assert report.resumed >= 1


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        ("cuda", "devices must be a list of one device or more"),
        ([], "devices must be a list of one device or more"),
        (["cpu", "tpu"], "unknown device 'tpu'"),
    ],
)
def test_wrong_devices_are_named(source, model, tmp_path, devices, message):
    with pytest.raises(ValueError, match=message):
        impute_parquet(source, tmp_path / "o.parquet", model, devices=devices)
    with pytest.raises(ValueError, match="devices is for engine='local'; leave it out"):
        impute_parquet(source, tmp_path / "o.parquet", model, devices=["cpu"], engine="ray")
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


def test_devices_of_two_kinds_are_refused(source, model, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr("vsae_fast.stream_checks.resolve_device", torch.device)
    with pytest.raises(ValueError, match="devices mixes cpu and cuda"):
        impute_parquet(source, tmp_path / "o.parquet", model, devices=["cpu", "cuda:0"])
