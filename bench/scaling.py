"""How the time of importance_impute grows with N, K and M: slopes of log time against log size."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest
import torch

from bench import paired
from bench.conftest import Plan
from bench.imputing import Case, layout, make_model, make_rows
from vsae_fast.ops.importance_impute import importance_impute

SIZES = {"N": (512, 1024, 2048, 4096, 8192), "K": (250, 500, 1000, 2000, 4000), "M": (6, 12, 24, 48, 96)}


@pytest.mark.parametrize("letter", SIZES)
def test_scaling(letter: str, plan: Plan, benchmark: Any) -> None:
    """Fit a slope through five sizes; a slope of 1 is linear growth."""
    runs = {}
    for size in SIZES[letter][:3] if plan.quick else SIZES[letter]:
        generator = torch.Generator().manual_seed(0)
        n_rows, n_samples, n_attributes = (
            size if letter == x else d for x, d in zip("NKM", (512, 500, 12), strict=True)
        )
        case = Case(layout("numerical", (1,) * n_attributes))
        model = make_model(case, generator)
        rows = make_rows(case, model, n_rows, generator)
        noise = torch.randn(n_samples, model.n_latent, generator=generator)
        decoders = model.folded(torch.float32)
        arguments = (*(rows[key] for key in ("mean", "scale", "x", "mask")), noise, decoders)
        runs[str(size)] = lambda arguments=arguments: importance_impute(*arguments, n_threads=plan.threads)
    times = paired.alternate(runs, rounds=plan.rounds, seconds=plan.seconds / 3)
    seconds = {size: statistics.median(values) for size, values in times.items()}
    slope = statistics.linear_regression(
        [math.log(int(s)) for s in seconds], [math.log(t) for t in seconds.values()]
    ).slope
    print(f"time ~ {letter}^{slope:.2f}")
    benchmark.extra_info.update(case=letter, seconds=seconds, slope=slope)
    benchmark.pedantic(next(iter(runs.values())), rounds=plan.rounds, iterations=1)
