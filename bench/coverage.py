"""Do pooled intervals hold what they promise? Regression coefficients that are known, cells hidden at random.

python -m bench.coverage [--quick] [--results FOLDER]

Every repetition draws a table from a linear model, hides cells, imputes, regresses on each completed table and pools.
Complete rows alone and the whole table stand beside it: unbiased, with larger and smaller errors. Repetitions are kept
as they come, and a run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.environment import describe
from bench.markdown import machine, table
from vsae_fast import VSAEImputer, pool

BETA = np.array([1.0, -0.5, 0.5, 0.0])
CORRELATION = 0.5
HIDDEN = 0.2
SIZES = {250: 60, 1000: 60, 4000: 20}  # rows, repetitions
N_IMPUTATIONS = 20
RESULTS = Path(__file__).parent / "results"


def draw_table(n_rows: int, seed: int) -> tuple[Any, Any]:
    """Rows (N, 5) of four correlated predictors and a response, and a mask with 1 = observed."""
    rng = np.random.default_rng([n_rows, seed])
    n = len(BETA)
    covariance = np.full((n, n), CORRELATION) + np.eye(n) * (1 - CORRELATION)
    X = rng.multivariate_normal(np.zeros(n), covariance, n_rows)
    table = np.column_stack([X, X @ BETA + rng.normal(size=n_rows)])
    return table, rng.random(table.shape) >= HIDDEN


def regress(table: Any) -> tuple[Any, Any]:
    """Coefficients and their variances by ordinary least squares, without the intercept's."""
    design = np.column_stack([np.ones(len(table)), table[:, :-1]])
    inverse = np.linalg.inv(design.T @ design)
    coefficients = inverse @ design.T @ table[:, -1]
    residual = table[:, -1] - design @ coefficients
    variance = residual @ residual / (len(table) - design.shape[1])
    return coefficients[1:], np.diag(inverse)[1:] * variance


def repetition(n_rows: int, seed: int, **options: Any) -> dict[str, Any]:
    """Estimates and intervals of every method on one table."""
    table, mask = draw_table(n_rows, seed)
    imputer = VSAEImputer(random_state=seed, **options).fit(np.where(mask, table, np.nan))
    draws = imputer.sample(np.where(mask, table, np.nan), N_IMPUTATIONS, random_state=seed)
    estimates = {
        "vsae_fast, 20 draws": [regress(draw) for draw in draws],
        "complete rows": [regress(table[mask.all(axis=1)])] * 2,
        "nothing hidden": [regress(table)] * 2,
    }
    line: dict[str, Any] = {"n_rows": n_rows, "seed": seed, "methods": {}}
    for name, fits in estimates.items():
        pooled = pool([c for c, _ in fits], [v for _, v in fits], dfcom=n_rows - len(BETA) - 1)
        low, high = pooled.interval(0.95)
        line["methods"][name] = {
            "estimate": pooled.estimate.tolist(), "low": low.tolist(), "high": high.tolist(),
        }  # fmt: skip
    return line


def section(path: Path) -> str:
    """What the intervals held, for docs/quality.md; nothing where there are no results."""
    if not path.is_file():
        return ""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    rows = []
    for n_rows in sorted({line["n_rows"] for line in lines}):
        some = [line for line in lines if line["n_rows"] == n_rows]
        for name in some[0]["methods"]:
            fields = {
                field: np.array([line["methods"][name][field] for line in some])
                for field in ("estimate", "low", "high")
            }
            held = (fields["low"] <= BETA) & (fields["high"] >= BETA)
            estimates = ", ".join(f"{value:.2f}" for value in fields["estimate"].mean(axis=0))
            width = (fields["high"] - fields["low"]).mean()
            rows.append((f"{n_rows:,}", name, f"{held.mean():.2f}", estimates, f"{width:.2f}", str(len(some))))
    truth = ", ".join(f"{value:.2f}" for value in BETA)
    return "\n\n".join(
        [
            "## Pooled estimates",
            f"A response that is {truth} times four predictors, correlated by {CORRELATION}, plus noise; "
            f"{HIDDEN:.0%} of all cells hidden completely at random; regression on each of {N_IMPUTATIONS} draws, "
            "pooled by Rubin's rules (`python -m bench.coverage`). Held: share of the nominal 95 % intervals that hold "
            "the true coefficient.",
            table(("rows", "method", "held", "mean estimates", "mean width", "repetitions"), rows),
            machine(lines[-1]["environment"]),
        ]
    )


def main() -> None:
    """Run the repetitions that are not there yet."""
    parser = argparse.ArgumentParser(prog="python -m bench.coverage", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one repetition with a short training")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    path = arguments.results / "coverage.jsonl"
    known = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    done = {(line["n_rows"], line["seed"]) for line in known}
    sizes = {250: 1} if arguments.quick else SIZES
    options = {"epochs": 2, "n_models": 1} if arguments.quick else {}
    for n_rows, n_repetitions in sizes.items():
        for seed in range(n_repetitions):
            if (n_rows, seed) in done:
                continue
            line = {**repetition(n_rows, seed, **options), "environment": describe(torch.get_num_threads())}
            with path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{n_rows} rows, repetition {seed}", flush=True)


if __name__ == "__main__":
    main()
