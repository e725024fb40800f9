"""``vsae-fast bench``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import click

from vsae_fast.cli.options import JSON, report


@click.command()
@click.option("--rows", type=click.IntRange(min=100), default=2000, show_default=True)
@click.option("--columns", type=click.IntRange(min=2), default=12, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@JSON
def bench(rows: int, columns: int, repeats: int, as_json: bool) -> None:
    """Time training and imputation on this machine, with the fused kernels and with plain PyTorch.

    The paper's network on random numbers with half of the cells missing; 1000 samples a row; medians.
    """
    import numpy as np

    from vsae_fast.estimator import VSAEImputer

    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, columns)) + rng.normal(size=(rows, 1))
    X[rng.random(X.shape) < 0.5] = np.nan
    result: dict[str, Any] = {"rows": rows, "columns": columns}
    for backend in ("cpu", "reference"):
        imputer = VSAEImputer(preset="paper", epochs=2, random_state=0, backend=backend)
        training = _median(lambda: imputer.fit(X), repeats)  # noqa: B023 - called at once
        imputing = _median(lambda: imputer.transform(X), repeats)  # noqa: B023
        result[backend] = {"epochs_per_second": 2 / training, "rows_per_second": rows / imputing}
    lines = [f"{'':<24}{'fused kernels':>15}{'plain PyTorch':>15}{'ratio':>8}"]
    for what, key in (("training, epochs/s", "epochs_per_second"), ("imputation, rows/s", "rows_per_second")):
        fused, plain = result["cpu"][key], result["reference"][key]
        lines.append(f"{what:<24}{fused:>15,.1f}{plain:>15,.1f}{fused / plain:>8.1f}")
    report(result, "\n".join(lines), as_json=as_json)


def _median(work: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)
