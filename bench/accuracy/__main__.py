"""The arena: our imputer against others on hidden cells, one JSON line a run, resumed where it stopped.

python -m bench.accuracy [--quick] [--data FOLDER] [--protocol split|whole|both] [--sets A,B] [--methods A,B]
                         [--seeds 0,1,2] [--minutes M] [--jobs J] [--output FILE] [--draws-again]

FOLDER holds the UCI sets (the environment variable VSAE_FAST_DATA by default); without it only scikit-learn's tables
are run. `--quick` takes one mask at 50 % of the small tables. `--jobs` runs so many at once, each on one thread: times
of whole tables are to be measured without it. `--draws-again` scores the draws of our own split runs
anew, on fits of this commit, where they were scored on another one: errors and times stay those of the runs.
`python -m bench.tables` turns the lines into docs/quality.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch

from bench import environment
from bench.accuracy import runs
from bench.accuracy.methods import DEFAULT, METHODS
from bench.accuracy.sets import BUNDLED, SETS
from vsae_fast.whole_file import whole_file

RESULTS = Path(__file__).parents[1] / "results" / "accuracy.jsonl"
QUICK_SETS = ("iris", "wine", "diabetes", "heart_cleveland")
# Of the opponents, those that the bars of whole tables name.
WHOLE_METHODS = ("mean / mode", "vsae_fast auto", "chained random forests")


def main() -> None:
    """Run what is not in the result file yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data", type=Path, default=os.environ.get("VSAE_FAST_DATA"))
    parser.add_argument("--protocol", choices=("split", "whole", "both"), default="both")
    parser.add_argument("--sets")
    parser.add_argument("--methods")
    parser.add_argument("--seeds")
    parser.add_argument("--minutes", type=float, help="begin no run after so many")
    parser.add_argument("--jobs", type=int, default=1, help="processes, each of one thread where there are several")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--draws-again", action="store_true")
    arguments = parser.parse_args()
    if arguments.draws_again:
        draw_again(arguments.output, arguments.data)
        return
    if arguments.jobs < 1:
        parser.error("--jobs must be at least 1")

    sets = SETS if arguments.data else BUNDLED
    if arguments.sets:
        sets = tuple(arguments.sets.split(","))
    elif arguments.quick:
        sets = tuple(name for name in sets if name in QUICK_SETS)
    methods = tuple(arguments.methods.split(",")) if arguments.methods else DEFAULT
    unknown = set(methods) - set(METHODS)
    if unknown:
        parser.error(f"unknown method {sorted(unknown)[0]!r}; use {', '.join(METHODS)}")
    seeds = (
        tuple(map(int, arguments.seeds.split(","))) if arguments.seeds else runs.SEEDS[: 1 if arguments.quick else 3]
    )
    planned = []
    if arguments.protocol != "split" and not arguments.quick:
        planned.append(
            runs.whole_runs(sets, tuple(m for m in methods if m in WHOLE_METHODS or arguments.methods), seeds)
        )
    if arguments.protocol != "whole":
        split = runs.split_runs(sets, methods, seeds)
        planned.append(run for run in split if not arguments.quick or run.hidden == max(runs.SHARES))

    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.touch()
    lines = [json.loads(line) for line in arguments.output.read_text().splitlines()]
    done = {runs.Run(*(line[field] for field in runs.Run._fields)) for line in lines}
    todo = [run for run in itertools.chain(*planned) if run not in done]
    begin = time.monotonic()

    def in_time(_: runs.Run) -> bool:
        return arguments.minutes is None or time.monotonic() - begin <= 60 * arguments.minutes

    finished = 0
    for result in results(itertools.takewhile(in_time, todo), arguments.data, arguments.jobs):
        print(told(result), flush=True)
        with arguments.output.open("a") as file:
            file.write(json.dumps(result) + "\n")
        finished += 1
    if finished < len(todo):
        print("time is up; the same command goes on")


def results(todo: Iterable[runs.Run], folder: Path | None, jobs: int) -> Iterator[dict[str, Any]]:
    """Lines of the runs as they are finished; a run is taken when there is a process for it."""
    if jobs == 1:
        for run in todo:
            yield runs.execute(run, folder)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        begun: set[Future[dict[str, Any]]] = set()
        for run in todo:
            begun.add(pool.submit(runs.execute, run, folder))
            if len(begun) == jobs:
                ended, begun = wait(begun, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in ended)
        yield from (future.result() for future in begun)


def told(result: dict[str, Any]) -> str:
    """What the terminal says of a line."""
    run = runs.Run(*(result[field] for field in runs.Run._fields))
    scores = result["error"]
    if own := result["scores"].get("in-sample"):
        scores = f"NRMSE {own['nrmse_std']}  PFC {own['pfc']}  {result['seconds']['fit_transform']:.1f} s"
    return f"{run.protocol} {run.set} {run.mechanism} {run.hidden:.0%} seed {run.seed}  {run.method}: {scores}"


def draw_again(path: Path, folder: Path | None) -> None:
    """Replace the draws' scores of our own split runs, line by line."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    commit = environment.describe(1)["commit"]
    for i, line in enumerate(lines):
        ours = line["protocol"] == "split" and line["method"].startswith("vsae_fast")
        if not ours or line.get("draws", {}).get("commit") == commit:
            continue
        lines[i] = runs.draw_again(line, folder)
        with whole_file(path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))
        own = lines[i]["scores"]["in-sample"]
        print(f"{line['set']} {line['mechanism']}: energy {own['energy']}  coverage {own['coverage']}", flush=True)


if __name__ == "__main__":
    main()
