"""Error of the imputed mean by sampler, and the time of a whole impute, on white_wine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

import vsae_fast
from bench.accuracy.sets import load
from bench.conftest import Plan
from vsae_fast import metrics, missingness
from vsae_fast.imputation import RowImputer
from vsae_fast.noise import SAMPLERS, latent_noise
from vsae_fast.table.containers import read_table
from vsae_fast.table.encode import encode
from vsae_fast.table.mask import observed_cells

N_ROWS, N_SEEDS, N_TRUTH = 1000, 24, 65_536


def test_sampler_error_and_whole_impute(benchmark: Any, plan: Plan, data_folder: Path) -> None:
    """Train and impute once; then sample the trained model over and over."""
    truth = load("white_wine", data_folder)
    incomplete, mask = missingness.ampute(truth, "MCAR", 0.5, random_state=0)
    imputer = vsae_fast.VSAEImputer(
        preset="paper", random_state=0, epochs=20 if plan.quick else None, n_jobs=plan.threads
    )

    begin = time.perf_counter()
    completed = benchmark.pedantic(lambda: imputer.fit_transform(incomplete), rounds=1, iterations=1)
    seconds = time.perf_counter() - begin

    columns = read_table(incomplete)
    x, m, _ = encode(imputer.schema_, columns.columns(), observed_cells(columns, None))
    x, m = torch.from_numpy(x[:N_ROWS]), torch.from_numpy(m[:N_ROWS])
    hole = m == 0
    model = imputer.models_[0]

    def imputed(sampler: str, n_samples: int, seed: int) -> torch.Tensor:
        # A RowImputer's fill belongs to its seed; the noise table is put in its place, so that only it differs.
        rows = RowImputer(model, seed=0, n_samples=1)
        rows._noise = latent_noise(sampler, seed, (n_samples, model.n_latent))
        return rows.run(x, m).imputed[hole].double()

    exact = imputed("sobol", N_TRUTH if not plan.quick else 4096, seed=10**6)
    errors: dict[str, dict[str, float]] = {}
    for n_samples in (200, 1000):
        for sampler in SAMPLERS:
            squares = [(imputed(sampler, n_samples, seed) - exact).square().mean() for seed in range(N_SEEDS)]
            errors.setdefault(str(n_samples), {})[sampler] = float(torch.stack(squares).mean().sqrt())
    benchmark.extra_info.update(
        case="sampling on white_wine",
        seconds=seconds,
        nrmse=metrics.nrmse(truth, completed, mask),
        n_seeds=N_SEEDS,
        root_mean_squared_error=errors,
    )
