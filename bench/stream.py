"""What streaming Parquet costs beside the imputation alone, and whether memory grows with the rows.

python -m bench.stream [--quick] [--rows N ...] [--output FILE]

Each size runs in a process of its own: impute_parquet on a file, then transform on the same row groups in memory; the
overhead is what the first takes beyond the second.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import vsae_fast
from bench import environment

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "stream.json"
N_COLUMNS, GROUP_ROWS = 12, 50_000

WORK = """
import json, sys, time
from pathlib import Path
import pyarrow.parquet as pq, torch, vsae_fast
from bench import resident
from bench.stream import write_table
torch.set_num_threads(2)
folder, n_rows, group_rows, n_samples = Path(sys.argv[1]), *map(int, sys.argv[2:])
source = folder / "in.parquet"
write_table(source, n_rows, group_rows)
imputer = vsae_fast.VSAEImputer.load(folder / "model").set_params(n_samples=n_samples)
imputer.transform(pq.ParquetFile(source).read_row_group(0))
before = resident.forget_peak()
begin = time.perf_counter()
vsae_fast.impute_parquet(source, folder / "out.parquet", imputer, n_samples=n_samples)
seconds, peak = time.perf_counter() - begin, resident.peak() - before
alone = 0.0
opened = pq.ParquetFile(source)
for group in range(opened.num_row_groups):
    table = opened.read_row_group(group)
    begin = time.perf_counter()
    imputer.transform(table)
    alone += time.perf_counter() - begin
print(json.dumps({"n_rows": n_rows, "seconds": seconds, "transform_seconds": alone, "peak_mb": peak / 1e6}))
"""


def write_table(path: Path, n_rows: int, group_rows: int, seed: int = 0) -> None:
    """Numbers of one factor with a fifth of the cells missing, in row groups."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(seed)
    schema = pa.schema([(f"x{j}", pa.float64()) for j in range(N_COLUMNS)])
    with pq.ParquetWriter(path, schema) as writer:
        for _ in range(n_rows // group_rows):
            X = rng.normal(size=(group_rows, 1)) + rng.normal(size=(group_rows, N_COLUMNS))
            X[rng.random(X.shape) < 0.2] = np.nan
            writer.write_table(pa.table(list(X.T), schema=schema))


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small file")
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[200_000, 800_000], help="sizes; 20 million take a quarter of an hour"
    )
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    sizes, group_rows = ([4000], 2000) if arguments.quick else (arguments.rows, GROUP_ROWS)
    result: dict[str, Any] = {
        "environment": environment.describe(2), "n_columns": N_COLUMNS, "group_rows": group_rows, "n_samples": 100,
        "points": [],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        X = np.random.default_rng(0).normal(size=(500, N_COLUMNS))
        X[::2, ::2] = np.nan
        vsae_fast.VSAEImputer(preset="paper", epochs=1, random_state=0).fit(named(X)).save(Path(folder) / "model")
        for n_rows in sizes:
            command = [sys.executable, "-c", WORK, folder, *map(str, (n_rows, group_rows, 100))]
            done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
            point = json.loads(done.stdout)
            result["points"].append(point)
            share = 1 - point["transform_seconds"] / point["seconds"]
            print(
                f"N {n_rows:>9,}  {n_rows / point['seconds']:>9,.0f} rows/s  overhead {share:.0%} of the wall time  "
                f"peak grows by {point['peak_mb']:.0f} MB"
            )
            (Path(folder) / "out.parquet").unlink()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


def named(X: Any) -> Any:
    """Arrow table of an array, with the columns of :func:`write_table`."""
    import pyarrow as pa

    return pa.table({f"x{j}": column for j, column in enumerate(X.T)})


if __name__ == "__main__":
    main()
