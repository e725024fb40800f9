"""Peak memory of VSAEImputer.transform against the number of samples and of rows, one process per point.

python -m bench.memory [--quick] [--output FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import vsae_fast
from bench import environment

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "memory.json"
N_COLUMNS = 12
REPEATS = 3  # the allocator keeps more or less of what was freed; medians

# Prints how far the process's resident memory rises above its start during transform, in bytes.
PROBE = """
import sys
import numpy as np, torch, vsae_fast
from bench import resident
torch.set_num_threads(2)
path, n_rows, n_columns, n_samples = sys.argv[1], *map(int, sys.argv[2:])
imputer = vsae_fast.VSAEImputer.load(path)
rng = np.random.default_rng(0)
X = rng.normal(size=(n_rows, n_columns))
X[rng.random(X.shape) < 0.5] = np.nan
imputer.set_params(n_samples=1).transform(X[:10_000])
imputer.set_params(n_samples=n_samples)
before = resident.forget_peak()
imputer.transform(X)
print(resident.peak() - before)
"""


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small tables only")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    n_rows, n_samples = (2000, [10, 100]) if arguments.quick else (20_000, [10, 100, 1000])
    points = [(n_rows, k) for k in n_samples]
    points += [(n, 10) for n in ([4000] if arguments.quick else [100_000, 200_000, 400_000])]
    result: dict[str, Any] = {"environment": environment.describe(2), "n_columns": N_COLUMNS, "points": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        X = np.random.default_rng(0).normal(size=(500, N_COLUMNS))
        X[::2, ::2] = np.nan
        vsae_fast.VSAEImputer(preset="paper", epochs=1, random_state=0).fit(X).save(path)
        for rows, samples in points:
            command = [sys.executable, "-c", PROBE, str(path), str(rows), str(N_COLUMNS), str(samples)]
            runs = [
                subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT) for _ in range(REPEATS)
            ]
            grown = statistics.median(int(run.stdout) for run in runs)
            point = {"n_rows": rows, "n_samples": samples, "peak_mb": grown / 1e6, "bytes_per_row": grown / rows}
            result["points"].append(point)
            print(
                f"N {rows:>8,}  K {samples:>5,}  peak grows by {grown / 1e6:8.1f} MB  ({grown / rows:6.0f} bytes a row)"
            )
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
