"""What a user waits for: help, import, and a whole imputation with defaults; every figure from a process of its own.

python -m bench.front_door [--quick] [--output FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench import environment

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "front_door.json"
REPEATS = 5
BARS = {"vsae-fast --help": 0.5, "impute, 1,000 x 20 mixed": 15.0}  # seconds

# Twelve numbers and eight levels of one factor, 30 % of the cells hidden.
TABLE = """
import sys, time
import numpy as np, pandas as pd, torch, vsae_fast
torch.set_num_threads(2)
rng = np.random.default_rng(0)
factor = rng.normal(size=1000)
table = pd.DataFrame({f"n{j}": factor + rng.normal(size=1000) for j in range(12)})
for j in range(8):
    level = np.digitize(factor + rng.normal(size=1000), [-1, 0, 1])
    table[f"k{j}"] = np.array(list("abcdefgh"))[(level + j) % 8]
table = table.mask(rng.random(table.shape) < 0.3)
options = eval(sys.argv[1])
"""
IMPUTE = (
    TABLE
    + """
begin = time.perf_counter()
vsae_fast.impute(table, random_state=0, **options)
print(time.perf_counter() - begin)
"""
)
# Rows one by one, as a service gets them: the median, as the first call prepares the networks.
ONE_ROW = (
    TABLE
    + """
imputer = vsae_fast.VSAEImputer(random_state=0, **options).fit(table)
seconds = []
for i in range(200):
    row = table.iloc[i : i + 1]
    begin = time.perf_counter()
    imputer.transform(row)
    seconds.append(time.perf_counter() - begin)
print(np.median(seconds))
"""
)


def whole_process(*command: str) -> float:
    """Seconds of a process from start to end."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, capture_output=True, cwd=ROOT)
    return time.perf_counter() - begin


def imputing(script: str, options: str) -> float:
    """Seconds that a script prints, in a fresh process."""
    done = subprocess.run([sys.executable, "-c", script, options], check=True, capture_output=True, text=True, cwd=ROOT)
    return float(done.stdout)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short training, one repeat")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    options = "{'epochs': 2, 'n_models': 1}" if arguments.quick else "{}"
    works = {
        "vsae-fast --help": lambda: whole_process("-m", "vsae_fast", "--help"),
        "import vsae_fast": lambda: whole_process("-c", "import vsae_fast"),
        "impute, 1,000 x 20 mixed": lambda: imputing(IMPUTE, options),
        "transform, one row of 20": lambda: imputing(ONE_ROW, options),
    }
    result: dict[str, Any] = {"environment": environment.describe(2), "seconds": {}}
    for name, work in works.items():
        times = [work() for _ in range(1 if arguments.quick else REPEATS)]
        result["seconds"][name] = {"median": statistics.median(times), "least": min(times), "largest": max(times)}
        print(f"{name:<28}{statistics.median(times):8.4f} s")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
