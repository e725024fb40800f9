"""The paper's tables and figures, one command each; finished cells are kept and never run again.

python -m bench.paper table5 ... table11 | figure5 | figure6 | figure7 | all
                      [--data FOLDER] [--epochs E] [--patience P] [--seeds 0,1,2] [--methods VSAE,VAE] [--jobs J]
                      [--quick] [--results FOLDER]

FOLDER of --data holds the sets (the environment variable VSAE_FAST_DATA by default); what is not there is downloaded,
and what cannot be had is replaced by a stand-in, which every table names. --epochs takes fewer epochs than appendix D,
and --patience ends training after so many epochs without a better validation score; such results stand beside the full
ones and are marked. --quick runs every cell at a small scale. Tables are written to FOLDER of --results as Markdown and
JSON, figures as PNG. A training that was cut off goes on from its checkpoint in FOLDER/paper; delete that after a
change of the training itself.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from bench.paper import figures, report
from bench.paper.cells import QUICK, SEEDS, Cell, Scale, cells_of, execute, methods_of, scale_name
from bench.paper.printed import TABLES

RESULTS = Path(__file__).parents[1] / "results"
FIGURES = tuple(figures.FIGURES)


def main() -> None:
    """Run what is not in the result file yet, then write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=(*TABLES, *FIGURES, "all"))
    parser.add_argument("--data", default=os.environ.get("VSAE_FAST_DATA"))
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--patience", type=int, help="epochs without a better validation score")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--methods")
    parser.add_argument("--jobs", type=int, default=1, help="processes, each of one thread where there are several")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    for name in ("epochs", "patience"):
        if (value := getattr(arguments, name)) is not None and value < 1:
            parser.error(f"--{name} must be at least 1")
    tables = tuple(TABLES) if arguments.what == "all" else (arguments.what,) if arguments.what in TABLES else ()
    scale = QUICK if arguments.quick else Scale(epochs=arguments.epochs, patience=arguments.patience)
    seeds = tuple(map(int, arguments.seeds.split(",")))
    methods = tuple(arguments.methods.split(",")) if arguments.methods else None
    known = {method for table in tables or TABLES for method in methods_of(table)}
    unknown = sorted(set(methods or ()) - known)
    if unknown:
        parser.error(f"unknown --methods {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    arguments.results.mkdir(parents=True, exist_ok=True)
    wanted = list(dict.fromkeys(cell for table in tables for cell in cells_of(table, methods, seeds)))
    drawn = FIGURES if arguments.what == "all" else (arguments.what,) if arguments.what in FIGURES else ()
    if drawn:
        wanted = list(dict.fromkeys([*wanted, figures.CELL]))
    run(wanted, scale, arguments.data, arguments.results, arguments.jobs)
    for table in tables:
        text = report.write(table, arguments.results, arguments.results / "paper", "quick" if arguments.quick else None)
        print(text)
    for figure in drawn:
        print(figures.draw(figure, scale, arguments.data, arguments.results / "paper"))


def run(cells: list[Cell], scale: Scale, folder: str | None, results: Path, jobs: int) -> None:
    """Run the cells that have no line in ``paper.jsonl`` at this scale, and append one for each."""
    output = results / report.LINES
    models = results / "paper"
    done = {(Cell(*(line[f] for f in Cell._fields)), line["scale"]) for line in report.read(output)}
    todo = [cell for cell in cells if (cell, scale_name(cell, scale)) not in done or _lacks_model(cell, scale, models)]
    bar = tqdm(total=len(todo), unit="cell", disable=not todo)
    if jobs == 1:
        for cell in todo:
            bar.set_postfix_str(" ".join(map(str, cell)))
            _append(output, execute(cell, scale, folder, models, keep_model=cell == figures.CELL))
            bar.update()
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            futures = {
                pool.submit(execute, cell, scale, folder, models, keep_model=cell == figures.CELL): cell
                for cell in todo
            }
            for future in as_completed(futures):
                _append(output, future.result())
                bar.set_postfix_str(" ".join(map(str, futures[future])))
                bar.update()
    bar.close()


def _lacks_model(cell: Cell, scale: Scale, models: Path) -> bool:
    """Whether the figures' network was trained without being kept."""
    return cell == figures.CELL and not figures.model_path(scale, models).is_file()


def _append(output: Path, line: dict[str, Any]) -> None:
    with output.open("a") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    main()
