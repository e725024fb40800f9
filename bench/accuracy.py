"""Errors of impute on hidden cells beside mean/mode imputation: one JSON line a run, resumed where it stopped.

python -m bench.accuracy [--data FOLDER] [--sets white_wine,...] [--seeds 0,1,2] [--preset auto] [--output FILE]

FOLDER holds the UCI sets (the environment variable VSAE_FAST_DATA by default); without it only scikit-learn's breast
cancer table is run. Cells are hidden completely at random, half of them; the seed is that of the mask.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from sklearn.datasets import load_breast_cancer

import vsae_fast
from bench import environment

RESULTS = Path(__file__).parent / "results" / "accuracy.jsonl"
HIDDEN_SHARE = 0.5
DROPPED = {"yeast": ["class"], "mushroom": ["veil-type"]}  # a constant, and the class that the bar leaves out
SETS = ["breast_cancer", "heart_cleveland", "yeast", "white_wine", "mushroom", "phishing_websites"]


def load(name: str, folder: Path | None) -> pd.DataFrame:
    """Table with its column kinds: numbers as float64, levels as text."""
    if name == "breast_cancer":
        bunch = load_breast_cancer(as_frame=True)
        table: pd.DataFrame = bunch.data.copy()
        return table.assign(diagnosis=bunch.target.map(dict(enumerate(bunch.target_names))))
    if folder is None:
        raise SystemExit(f"{name} needs --data FOLDER")
    schema = json.loads((folder / name / "schema.json").read_text())
    table = pd.read_csv(folder / name / schema["file"], dtype=str, keep_default_na=False, na_values=[""])
    for column in schema["columns"]:
        if column["kind"] == "numerical":
            table[column["name"]] = table[column["name"]].astype(float)
    return table.drop(columns=DROPPED.get(name, []))


def mean_and_mode(table: pd.DataFrame) -> pd.DataFrame:
    """Simple imputation."""
    return table.fillna(
        {name: column.mean() if column.dtype == float else column.mode()[0] for name, column in table.items()}
    )


def run(name: str, truth: pd.DataFrame, method: str, seed: int) -> dict[str, Any]:
    """Hide, impute and score."""
    incomplete, mask = vsae_fast.missingness.ampute(truth, "MCAR", HIDDEN_SHARE, random_state=seed)
    begin = time.perf_counter()
    if method == "mean / mode":
        completed = mean_and_mode(incomplete)
    else:
        completed = vsae_fast.impute(incomplete, preset=method.removeprefix("vsae_fast "), random_state=0)
    return {
        "set": name,
        "method": method,
        "mechanism": "MCAR",
        "hidden": HIDDEN_SHARE,
        "seed": seed,
        "nrmse": vsae_fast.metrics.nrmse(truth, completed, mask),
        "pfc": vsae_fast.metrics.pfc(truth, completed, mask),
        "seconds": time.perf_counter() - begin,
        "environment": environment.describe(torch.get_num_threads()),
    }


def main() -> None:
    """Run what is not in the result file yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("VSAE_FAST_DATA"))
    parser.add_argument("--sets")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--preset", default="auto")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    names = arguments.sets.split(",") if arguments.sets else SETS if arguments.data else SETS[:1]
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.touch()
    lines = [json.loads(line) for line in arguments.output.read_text().splitlines()]
    done = {(line["set"], line["method"], line["seed"]) for line in lines}
    warnings.filterwarnings("ignore", message="Columns kept out of the model")
    for name in names:
        truth = load(name, arguments.data)
        for seed in map(int, arguments.seeds.split(",")):
            for method in ("mean / mode", f"vsae_fast {arguments.preset}"):
                if (name, method, seed) in done:
                    continue
                result = run(name, truth, method, seed)
                print(
                    f"{name:<20}{method:<18} seed {seed}  NRMSE {result['nrmse']:.4f}  PFC {result['pfc']:.4f}"
                    f"{result['seconds']:>8.1f} s",
                    flush=True,
                )
                with arguments.output.open("a") as file:
                    file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
