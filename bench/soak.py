"""Hours of impute_parquet in one process, and whether it slows down or memory creeps up.

python -m bench.soak [--quick] [--rows N] [--samples K ...] [--output FILE]

The table is written to disk in pieces, a file each, and needs three times its size there: itself, the finished row
groups, the target. For every K a process of its own completes it and notes after every row group how far it is, when,
and how much memory is resident. What was measured for another K stays in the result file.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import vsae_fast
from bench import environment
from bench.stream import GROUP_ROWS, N_COLUMNS, named, write_table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "soak.json"
PIECE_ROWS = 5_000_000
COST_BAR, MEMORY_BAR_MB = 0.10, 1500.0  # seconds per row, last tenth beside the first; peak of the whole process

WORK = """
import json, sys, time
from pathlib import Path
import torch, vsae_fast
from bench import resident
torch.set_num_threads(2)
folder, n_samples = Path(sys.argv[1]), int(sys.argv[2])
notes = []
def note(done, total):
    notes.append((done, time.perf_counter(), resident.now()))
resident.forget_peak()
begin = time.perf_counter()
report = vsae_fast.impute_parquet(folder / "in", folder / "out", folder / "model", n_samples=n_samples, progress=note)
ended = time.perf_counter()
print(json.dumps({"rows": report.rows, "seconds": ended - begin, "peak_mb": resident.peak() / 1e6,
                  "groups": [done for done, _, _ in notes], "at": [t - begin for _, t, _ in notes],
                  "resident_mb": [size / 1e6 for _, _, size in notes]}))
"""


def slopes(groups: Any, at: Any, resident_mb: Any, group_rows: int) -> dict[str, float]:
    """How the run went on, without its first twentieth, in which threads and buffers come up.

    Parameters
    ----------
    groups, at, resident_mb : sequence of number
        Row groups that were done, seconds since the beginning and resident memory, noted after each row group.
    group_rows : int

    Returns
    -------
    dict
        ``first`` and ``last``: rows per second in the first and the last tenth of the rest; ``mb_per_10m_rows``: what
        memory grew by for every ten million rows, by least squares.
    """
    done, seconds, memory = (np.asarray(values, dtype=float) for values in (groups, at, resident_mb))
    start = len(done) // 20
    done, seconds, memory = done[start:] * group_rows, seconds[start:], memory[start:]
    tenth = max(len(done) // 10, 1)
    grown = np.polyfit(done / 1e7, memory, 1)[0] if len(done) > 1 else 0.0
    return {
        "first": float((done[tenth] - done[0]) / (seconds[tenth] - seconds[0])),
        "last": float((done[-1] - done[-1 - tenth]) / (seconds[-1] - seconds[-1 - tenth])),
        "mb_per_10m_rows": float(grown),
    }


def soak(folder: Path, n_samples: int, group_rows: int) -> dict[str, Any]:
    """Complete the table in ``folder`` once."""
    command = [sys.executable, "-c", WORK, str(folder), str(n_samples)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    run: dict[str, Any] = json.loads(done.stdout)
    notes = run.pop("groups"), run.pop("at"), run.pop("resident_mb")
    shutil.rmtree(folder / "out")
    return {**run, **slopes(*notes, group_rows)}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small table")
    parser.add_argument("--rows", type=int, default=20_000_000, help="a multiple of 5 million")
    parser.add_argument("--samples", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--folder", type=Path, help="where there is room; the system's place for temporary files")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    n_rows, piece, group_rows = (24_000, 8_000, 1_000) if arguments.quick else (arguments.rows, PIECE_ROWS, GROUP_ROWS)
    if n_rows < piece or n_rows % piece:
        parser.error(f"--rows must be a multiple of {piece:,}")
    needed = 3 * n_rows * N_COLUMNS * 8
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        if shutil.disk_usage(folder).free < needed:
            parser.error(f"{folder} needs {needed / 1e9:.0f} GB of room; name another --folder or fewer --rows")
        (folder / "in").mkdir()
        for number in range(n_rows // piece):
            write_table(folder / "in" / f"part-{number:03d}.parquet", piece, group_rows, seed=number)
        X = np.random.default_rng(0).normal(size=(500, N_COLUMNS))
        X[::2, ::2] = np.nan
        vsae_fast.VSAEImputer(preset="paper", epochs=1, random_state=0).fit(named(X)).save(folder / "model")
        for n_samples in arguments.samples:
            described = environment.describe(2)
            run = soak(folder, n_samples, group_rows)
            write(arguments.output, {**run, "n_samples": n_samples, "environment": described})
            print(
                f"K {n_samples:>5,}  N {run['rows']:>11,}  {run['rows'] / run['seconds']:>9,.0f} rows/s "
                f"({run['first']:,.0f} at first, {run['last']:,.0f} at last)  peak {run['peak_mb']:.0f} MB "
                f"({run['mb_per_10m_rows']:+.1f} MB for 10 million rows)",
                flush=True,
            )


def write(path: Path, run: dict[str, Any]) -> None:
    """Put a run into the result file, in place of an earlier one of its number of samples."""
    runs = json.loads(path.read_text())["runs"] if path.is_file() else []
    runs = sorted([r for r in runs if r["n_samples"] != run["n_samples"]] + [run], key=lambda r: r["n_samples"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"n_columns": N_COLUMNS, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
