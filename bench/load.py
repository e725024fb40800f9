"""Tables of odd shapes and many callers at once, each in a process of its own.

python -m bench.load [--quick] [--output FILE]

* encoding: rows of 12 columns from an Arrow table to what the network takes, on one core;
* wide tables of 500 and 2,000 numerical columns, and one column of 10,000 levels: impute with defaults, one network;
* 64 threads that call transform of one imputer at once, beside one thread that makes the same calls.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench import environment

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "load.json"
ENCODING_BAR = 2e6  # cells a second and core
LEVELS = 10_000
THREADS = 64

ENCODING = """
import json, statistics, sys, time
import numpy as np, pyarrow as pa, torch
from vsae_fast import describe_schema
from vsae_fast.filling import chunks
from vsae_fast.table.containers import read_table
from vsae_fast.table.mask import observed_cells
torch.set_num_threads(1)
n, n_levels = int(sys.argv[1]), 12
rng = np.random.default_rng(0)
numbers = {f"x{j}": pa.array(rng.normal(size=n), mask=rng.random(n) < 0.2) for j in range(12)}
names = np.array([f"level {i}" for i in range(n_levels)])
levels = {f"k{j}": pa.array(names[rng.integers(n_levels, size=n)], mask=rng.random(n) < 0.2) for j in range(12)}
result = {}
for kind, columns in (("numbers", numbers), ("levels", levels)):
    table = pa.table(columns)
    schema = describe_schema(table.slice(0, 5_000))
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        opened = read_table(table)
        for chunk in chunks(schema, opened, observed_cells(opened, None)):
            pass
        seconds.append(time.perf_counter() - begin)
    result[kind] = n * 12 / statistics.median(seconds)
print(json.dumps(result))
"""

SHAPE = """
import json, sys, time
import numpy as np, pandas as pd, torch, vsae_fast
from bench import resident
from bench.load import LEVELS
torch.set_num_threads(2)
n_rows, n_columns, with_levels = map(int, sys.argv[1:])
rng = np.random.default_rng(0)
factors = rng.normal(size=(n_rows, 5))
X = factors @ rng.normal(size=(5, n_columns)) + rng.normal(size=(n_rows, n_columns))
frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(n_columns)])
if with_levels:
    frame["k"] = [f"level {code}" for code in rng.permutation(np.arange(n_rows) % LEVELS)]
holes = rng.random(frame.shape) < 0.3
incomplete = frame.mask(holes)
before = resident.forget_peak()
imputer = vsae_fast.VSAEImputer(n_models=1, random_state=0)
begin = time.perf_counter()
imputer.fit(incomplete)
fitted = time.perf_counter()
completed = imputer.transform(incomplete)
ended = time.perf_counter()
numbers = [f"x{j}" for j in range(n_columns)]
error = vsae_fast.metrics.nrmse(frame[numbers], completed[numbers], ~holes[:, :n_columns], normalize="std")
assert not completed.isna().to_numpy().any()
assert not with_levels or set(completed["k"]) <= set(frame["k"])
print(json.dumps({"fit_seconds": fitted - begin, "transform_seconds": ended - fitted,
                  "peak_mb": (resident.peak() - before) / 1e6, "nrmse_std": error}))
"""

CALLERS = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
import numpy as np, torch, vsae_fast
from bench import resident
torch.set_num_threads(2)
n_threads, n_rows = map(int, sys.argv[1:])
rng = np.random.default_rng(0)
X = rng.normal(size=(n_threads * n_rows, 1)) + rng.normal(size=(n_threads * n_rows, 12))
X[rng.random(X.shape) < 0.3] = np.nan
imputer = vsae_fast.VSAEImputer(preset="paper", epochs=1, random_state=0).fit(X[:500])
parts = np.split(X, n_threads)
imputer.transform(parts[0])
begin = time.perf_counter()
one = [imputer.transform(part) for part in parts]
alone = time.perf_counter() - begin
before = resident.forget_peak()
begin = time.perf_counter()
with ThreadPoolExecutor(n_threads) as pool:
    many = list(pool.map(imputer.transform, parts))
together = time.perf_counter() - begin
print(json.dumps({"one_seconds": alone, "many_seconds": together, "peak_mb": (resident.peak() - before) / 1e6,
                  "equal": all(np.array_equal(a, b) for a, b in zip(one, many))}))
"""


def _run(code: str, *arguments: int) -> dict[str, Any]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small tables only")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    quick = arguments.quick
    shapes = {
        "500 columns": (200 if quick else 5_000, 60 if quick else 500, 0),
        "2,000 columns": (200 if quick else 2_000, 120 if quick else 2_000, 0),
        f"{LEVELS:,} levels": (2_000 if quick else 20_000, 4, 1),
    }
    result: dict[str, Any] = {"environment": environment.describe(2), "shapes": {}}
    result["encoding"] = _run(ENCODING, 20_000 if quick else 500_000)
    for kind, rate in result["encoding"].items():
        print(f"encoding of {kind}: {rate / 1e6:.1f} million cells/s on one core")
    for name, (n_rows, n_columns, with_levels) in shapes.items():
        found = {"n_rows": n_rows, "n_columns": n_columns + with_levels, **_run(SHAPE, n_rows, n_columns, with_levels)}
        result["shapes"][name] = found
        print(
            f"{name}, {n_rows:,} rows: fit {found['fit_seconds']:.1f} s, transform {found['transform_seconds']:.1f} s, "
            f"peak grows by {found['peak_mb']:.0f} MB, NRMSE std {found['nrmse_std']:.3f}"
        )
    n_rows = 20 if quick else 2_000
    callers = {"n_threads": THREADS, "n_rows": n_rows, **_run(CALLERS, THREADS, n_rows)}
    result["callers"] = callers
    print(
        f"{THREADS} threads, {n_rows:,} rows a call: {callers['many_seconds']:.1f} s, one thread "
        f"{callers['one_seconds']:.1f} s; results {'are equal' if callers['equal'] else 'DIFFER'}"
    )
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    if not callers["equal"]:
        sys.exit("threads disturb each other")


if __name__ == "__main__":
    main()
