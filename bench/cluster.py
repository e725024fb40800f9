"""Two Ray nodes of one processor each against one process of two: rows a second, and the memory of a worker.

python -m bench.cluster [--quick] [--output FILE]

Both complete the same Parquet file with the same model, `impute_parquet` with and without engine="ray"; starting the
cluster is left out, starting its workers is not. The targets must be the same byte for byte. Linux only.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from bench import environment
from bench.stream import GROUP_ROWS, write_table
from vsae_fast import VSAEImputer, impute_parquet

RESULTS = Path(__file__).parent / "results" / "cluster.json"
N_ROWS, N_SAMPLES, NODES = 6_000_000, 100, 2
BAR = 0.8  # of one process's rows a second


class WorkerMemory(threading.Thread):
    """Largest resident memory of any process whose name says that it is one of our workers, in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.largest, self.over = 0, threading.Event()

    def run(self) -> None:
        """Look twice a second."""
        while not self.over.wait(0.5):
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    if b"GroupWorker" in (folder / "cmdline").read_bytes():
                        lines = (folder / "status").read_text().splitlines()
                        size = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
                        self.largest = max(self.largest, 1024 * size)
                except (OSError, StopIteration):
                    continue  # it ended in the meantime


def main() -> None:
    """Measure, print and write."""
    import ray
    from ray.cluster_utils import Cluster

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small file")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    n_rows, group_rows = (8_000, 2_000) if arguments.quick else (N_ROWS, GROUP_ROWS)
    torch.set_num_threads(NODES)
    result: dict[str, Any] = {
        "environment": environment.describe(NODES), "n_rows": n_rows, "n_samples": N_SAMPLES, "nodes": NODES,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, targets = folder / "in.parquet", [folder / "one.parquet", folder / "many.parquet"]
        write_table(source, n_rows, group_rows)
        first = pq.ParquetFile(source).read_row_group(0).slice(0, 500)
        imputer = VSAEImputer(preset="paper", epochs=1, random_state=0, n_samples=N_SAMPLES).fit(first)
        imputer.transform(first)
        begin = time.perf_counter()
        impute_parquet(source, targets[0], imputer)
        result["one_process"] = n_rows / (time.perf_counter() - begin)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 100_000_000})
        for _ in range(NODES):
            cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
        ray.init(address=cluster.address, log_to_driver=False)
        memory = WorkerMemory()
        memory.start()
        begin = time.perf_counter()
        impute_parquet(source, targets[1], imputer, engine="ray")
        result["ray"] = n_rows / (time.perf_counter() - begin)
        memory.over.set()
        ray.shutdown()
        cluster.shutdown()
        if targets[0].read_bytes() != targets[1].read_bytes():
            raise SystemExit("the targets differ")
    result["worker_mb"] = memory.largest / 1e6
    print(
        f"one process {result['one_process']:,.0f} rows/s, Ray {result['ray']:,.0f} rows/s "
        f"({result['ray'] / result['one_process']:.2f}), {result['worker_mb']:.0f} MB a worker"
    )
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
