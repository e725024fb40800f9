"""What is left when a process is killed: SIGKILL at random moments of training, imputing and saving.

python -m bench.kills [--kills N] [--output FILE]

Three processes take turns: `impute_parquet` with a training of its own, `impute_parquet` with a model, and a loop that
saves a model over an older one. After every kill no file may be half-written: the target is not there or whole, the
saved model is the old or the new one. Runs of `impute_parquet` are started again where they were killed until one comes
to its end, whose bytes must be those of a run that was never killed. A kill is survived where all of this holds.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench import environment
from vsae_fast import VSAEImputer, impute_parquet
from vsae_fast.parquet_parts import digest

RESULTS = Path(__file__).parent / "results" / "kills.json"
KILLS = 50
N_ROWS, GROUP_ROWS = 6_000, 300
QUICK = {"epochs": 20, "n_models": 1, "n_samples": 200}
TRAINED = {"max_train_rows": 1_000, **QUICK}
STREAM = """
import json, sys
from vsae_fast import checkpoints, impute_parquet
checkpoints.SECONDS = 0.0  # as a long training would, in a short one
source, target, model, options = sys.argv[1:]
print("ready", flush=True)
impute_parquet(source, target, model or None, **json.loads(options))
"""
SAVE = """
import sys
from vsae_fast import VSAEImputer
one, two = (VSAEImputer.load(path) for path in sys.argv[1:3])
print("ready", flush=True)
while True:
    one.save(sys.argv[3], overwrite=True)
    two.save(sys.argv[3], overwrite=True)
"""


def make_table(n_rows: int) -> pa.Table:
    """Numbers and levels of one factor, with holes."""
    rng = np.random.default_rng(0)
    factor = rng.normal(size=n_rows)
    return pa.table(
        {
            "a": pa.array(factor + rng.normal(size=n_rows), mask=rng.random(n_rows) < 0.3),
            "b": pa.array(np.round(10 * factor), mask=rng.random(n_rows) < 0.3),
            "c": pa.array(np.where(factor > 0, "up", "down"), mask=rng.random(n_rows) < 0.3),
        }
    )


def kill_after(seconds: float, code: str, *arguments: str) -> bool:
    """Start a process, kill it when it has been at work for so long; whether it had come to its end before."""
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise RuntimeError("the process failed before it began")
    time.sleep(seconds)
    finished = process.poll() is not None
    process.send_signal(signal.SIGKILL)
    process.wait()
    if finished and process.returncode != 0:
        raise RuntimeError(f"the process failed with status {process.returncode}")
    return finished


class StreamVictim:
    """A run of impute_parquet that is killed, and goes on, until it comes to its end."""

    def __init__(self, folder: Path, source: Path, model: Path | None, options: dict[str, Any]) -> None:
        self.source, self.target, self.model, self.options = source, folder / "out.parquet", model, options
        whole = folder / "whole.parquet"
        begin = time.perf_counter()
        impute_parquet(source, whole, model, **options)
        self.seconds = time.perf_counter() - begin
        self.expected = digest(whole)
        self.ends = 0

    def kill(self, rng: random.Random) -> bool:
        """Kill it once; whether nothing is lost or half-written."""
        arguments = (str(self.source), str(self.target), str(self.model or ""), json.dumps(self.options))
        finished = kill_after(rng.uniform(0, self.seconds), STREAM, *arguments)
        if not self.target.exists():
            return not finished
        # The target is whole, even where the run was killed before it had cleared its work folder.
        survived = digest(self.target) == self.expected
        impute_parquet(self.source, self.target, self.model, overwrite=True, **self.options)
        survived &= digest(self.target) == self.expected
        left = {path.name for path in self.target.parent.iterdir()} - {"whole.parquet", "out.parquet"}
        self.target.unlink()
        self.ends += 1
        return survived and not left


class SaveVictim:
    """A process that does nothing but save one model over the other."""

    def __init__(self, folder: Path, one: Path, two: Path) -> None:
        self.one, self.two, self.target = one, two, folder / "model"
        self.target.write_bytes(one.read_bytes())
        self.ends = 0

    def kill(self, rng: random.Random) -> bool:
        """Kill it once; whether the file is one of the two models and loads."""
        kill_after(rng.uniform(0, 1), SAVE, str(self.one), str(self.two), str(self.target))
        VSAEImputer.load(self.target)
        self.ends += 1
        return digest(self.target) in (digest(self.one), digest(self.two))


def main() -> None:
    """Kill, check, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    result: dict[str, Any] = {"environment": environment.describe(2), "victims": {}}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for part in ("data", "trained", "given", "saved"):
            (root / part).mkdir()
        source = root / "data" / "in.parquet"
        pq.write_table(make_table(N_ROWS), source, row_group_size=GROUP_ROWS)
        models = [root / "data" / f"model{seed}" for seed in range(2)]
        for seed, path in enumerate(models):
            VSAEImputer(random_state=seed, **QUICK).fit(make_table(500)).save(path)
        victims: dict[str, StreamVictim | SaveVictim] = {
            "impute_parquet, training first": StreamVictim(root / "trained", source, None, TRAINED),
            "impute_parquet, with a model": StreamVictim(root / "given", source, models[0], {"n_samples": 1000}),
            "saving over a model": SaveVictim(root / "saved", *models),
        }
        for label in victims:
            result["victims"][label] = {"kills": 0, "survived": 0, "ends": 0}
        for number in range(arguments.kills):
            label = list(victims)[number % len(victims)]
            counts = result["victims"][label]
            counts["kills"] += 1
            counts["survived"] += victims[label].kill(rng)
            counts["ends"] = victims[label].ends
    for label, counts in result["victims"].items():
        print(f"{label:<34}{counts['survived']:>4} of {counts['kills']} kills survived, {counts['ends']} ends")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    if any(counts["survived"] < counts["kills"] for counts in result["victims"].values()):
        sys.exit("something was lost or half-written")


if __name__ == "__main__":
    main()
