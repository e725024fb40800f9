"""Whether the mask term pays where a cell's own value decides that it is missing.

python -m bench.not_at_random [--quick] [--results FOLDER]

Simulated tables of 1,000 rows and four columns: one factor and noise. Of the first column some half is missing, by its
own value, at random, or by the second column, which the term is wrong about. One fit of each table, imputed with and
without the term. Repetitions are kept as they come, and a run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import expit

from bench.environment import describe
from bench.markdown import machine, table
from vsae_fast import VSAEImputer

RESULTS = Path(__file__).parent / "results"
N_ROWS, SEEDS = 1000, range(5)
BAR = 0.5  # of the bias without the term
NOISE = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "skewed": lambda rng, shape: rng.exponential(size=shape) - 1,
    "uniform": lambda rng, shape: rng.uniform(-(3**0.5), 3**0.5, size=shape),
}
MASKS = {
    "own value, expit(3 x)": lambda X, u: u < expit(3 * X[:, 0]),
    "own value, expit(x)": lambda X, u: u < expit(X[:, 0]),
    "own value, x > 0": lambda X, u: X[:, 0] > 0,
    "at random": lambda X, u: u < 0.5,
    "second column, expit(2 x)": lambda X, u: u < expit(2 * X[:, 1]),
}


def repetition(mask: str, noise: str, seed: int, **options: Any) -> dict[str, Any]:
    """Bias of the mean and root mean squared error of the missing cells, in deviations of the observed ones."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(N_ROWS, 1)) + NOISE[noise](rng, (N_ROWS, 4))
    hidden = MASKS[mask](truth, rng.random(N_ROWS))
    incomplete = truth.copy()
    incomplete[hidden, 0] = np.nan
    with_term = VSAEImputer(self_masking=[0], random_state=seed, **options).fit(incomplete)
    without = copy.copy(with_term)
    without.self_masking_ = {}
    deviation = truth[~hidden, 0].std()
    line: dict[str, Any] = {"mask": mask, "noise": noise, "seed": seed}
    for name, imputer in (("with", with_term), ("without", without)):
        error = (imputer.transform(incomplete) - truth)[hidden, 0] / deviation
        line[name] = {"bias": float(error.mean()), "rmse": float(np.sqrt((error**2).mean()))}
    return line


def section(path: Path) -> str:
    """What the term gave, for docs/quality.md; nothing where there are no results."""
    if not path.is_file():
        return ""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    rows = []
    for mask, noise in dict.fromkeys((line["mask"], line["noise"]) for line in lines):
        some = [line for line in lines if (line["mask"], line["noise"]) == (mask, noise)]
        bias, rmse = ({way: np.mean([abs(x[way][score]) for x in some]) for way in ("without", "with")}
                      for score in ("bias", "rmse"))  # fmt: skip
        met = "" if not mask.startswith("own") else "met" if bias["with"] <= BAR * bias["without"] else "**missed**"
        rows.append(
            (mask, noise, f"{bias['without']:.2f}", f"{bias['with']:.2f}", met, f"{rmse['without']:.2f}",
             f"{rmse['with']:.2f}", str(len(some)))
        )  # fmt: skip
    return "\n\n".join(
        [
            "## Not at random",
            f"One factor, four columns, {N_ROWS:,} rows; of the first column some half is missing "
            "(`python -m bench.not_at_random`). Size of the bias of the imputed mean of the missing cells, in standard "
            f"deviations of the observed ones, with `self_masking` and without; the bar is {BAR:g} of the latter where "
            "a cell's own value decides. Where the second column does, the term is wrong.",
            table(
                ("missing by", "noise", "bias without", "bias with", "bar", "RMSE without", "RMSE with", "tables"), rows
            ),
            machine(lines[-1]["environment"]),
        ]
    )


def main() -> None:
    """Run the repetitions that are not there yet."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.not_at_random", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="one repetition with a short training")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    path = arguments.results / "not_at_random.jsonl"
    known = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    done = {(line["mask"], line["noise"], line["seed"]) for line in known}
    first = next(iter(MASKS))
    cases = [(mask, "normal") for mask in MASKS] + [(first, noise) for noise in NOISE if noise != "normal"]
    options = {"epochs": 2, "n_models": 1} if arguments.quick else {}
    for mask, noise in cases[:1] if arguments.quick else cases:
        for seed in [0] if arguments.quick else SEEDS:
            if (mask, noise, seed) in done:
                continue
            line = {**repetition(mask, noise, seed, **options), "environment": describe(torch.get_num_threads())}
            with path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{mask}, {noise}, {seed}: {line['without']} -> {line['with']}", flush=True)


if __name__ == "__main__":
    main()
