"""A whole table on a GPU: rows of host memory, encoded, imputed, decoded, against plain PyTorch on the same device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from bench.gpu_training import backends
from bench.stopwatch import seconds_of
from vsae_fast import VSAEImputer

N_COLUMNS, N_SAMPLES = 12, 1000
TRAINED_ON, EPOCHS = 20_000, 5
ROWS, EAGER_ROWS = 10_000_000, 100_000


def _table(n_rows: int) -> Any:
    """Numbers that share a factor, half of them missing."""
    rng = np.random.default_rng(0)
    factor = rng.standard_normal((n_rows, 1), dtype=np.float32)
    table = factor + rng.standard_normal((n_rows, N_COLUMNS), dtype=np.float32)
    table[rng.random((n_rows, N_COLUMNS), dtype=np.float32) < 0.5] = np.nan
    return table


def measure_table(device: torch.device, quick: bool) -> dict[str, Any]:
    """Seconds of training and of completing a table, rates and ratios."""
    n_rows, n_eager = (200, 100) if quick else (ROWS, EAGER_ROWS)
    table = _table(n_rows)
    known = {"preset": "paper", "n_samples": 20 if quick else N_SAMPLES, "epochs": 1 if quick else EPOCHS}
    result: dict[str, Any] = {"n_rows": n_rows, "n_columns": N_COLUMNS, "n_samples": known["n_samples"]}
    fit_seconds, rates = {}, {}
    for name, backend in {"eager": "reference", **backends(device)}.items():
        imputer = VSAEImputer(**known, device=str(device), backend=backend, random_state=0)
        imputer.fit(table[:100])  # kernels are compiled
        imputer.transform(table[:100])
        fit_seconds[name] = seconds_of(lambda imputer=imputer: imputer.fit(table[:TRAINED_ON]))
        rows = n_eager if backend == "reference" else n_rows
        rates[name] = rows / seconds_of(lambda imputer=imputer, rows=rows: imputer.transform(table[:rows]))
    own = [name for name in rates if name != "eager"]
    return result | {
        "fit_seconds": fit_seconds,
        "rows_per_second": rates,
        "seconds_of_all_rows": {name: n_rows / rates[name] for name in own},
        "times_as_fast": {name: rates[name] / rates["eager"] for name in own},
    }
