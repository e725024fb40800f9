"""Throughput of what the latent-class member computes against eager PyTorch, in one run, in single precision."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from bench.conftest import Compare, Plan
from vsae_fast.latent_classes import LatentClasses, level_probabilities

N_ROWS, N_CLASSES, N_MIXTURES = 8192, 64, 3  # as auto has them
WIDTHS = {"22 attributes of 2 to 12 levels": tuple(2 + j % 11 for j in range(22)), "10 attributes of 3": (3,) * 10}


def random_classes(widths: tuple[int, ...], seed: int) -> LatentClasses:
    """Classes that prefer a few levels each."""
    rng = np.random.default_rng(seed)
    starts = np.concatenate([[0], np.cumsum(widths)]).astype(np.int32)
    level = np.concatenate([rng.dirichlet(np.full(width, 0.3), N_CLASSES).T for width in widths]) + 1e-4
    level /= np.repeat(np.add.reduceat(level, starts[:-1], axis=0), widths, axis=0)
    return LatentClasses(starts, rng.dirichlet(np.ones(N_CLASSES)), level)


@pytest.mark.parametrize("name", WIDTHS)
def test_level_probabilities(name: str, plan: Plan, compare: Compare, benchmark: Any) -> None:
    """Rows per second and ratio of one case, half of the cells missing, rows drawn from the first mixture's classes."""
    widths = WIDTHS[name]
    n_rows = N_ROWS // 8 if plan.quick else N_ROWS
    mixtures = [random_classes(widths, seed) for seed in range(N_MIXTURES)]
    classes, rng = mixtures[0], np.random.default_rng(N_MIXTURES)
    own = rng.choice(N_CLASSES, size=n_rows, p=classes.weight)
    whole, seen = [], []
    for first, last in pairwise(classes.starts):
        below = np.cumsum(classes.level[first:last, own], axis=0)[:-1]
        whole.append(np.eye(last - first, dtype=np.float32)[(rng.random(n_rows) > below).sum(0)])
        seen.append(np.repeat(rng.random((n_rows, 1)) < 0.5, last - first, axis=1))
    x, observed = np.concatenate(whole, axis=1), np.concatenate(seen, axis=1)

    def eager(dtype: torch.dtype = torch.float32) -> Any:
        """All rows at once, with one-hot levels."""
        seen, levels = torch.from_numpy(observed), torch.from_numpy(x).to(dtype)
        given = torch.where(seen, levels, 0.0)
        total = torch.zeros_like(levels)
        for own in mixtures:
            weight, level = torch.from_numpy(own.weight).to(dtype), torch.from_numpy(own.level).to(dtype)
            total += torch.softmax(given @ level.log() + weight.log(), dim=1) @ level.T
        return torch.where(seen, levels, total / len(mixtures))

    def ours() -> Any:
        return level_probabilities(mixtures, x, observed, plan.threads)

    # Classes of a posterior below 2e-9 of the likeliest one's count as none in the kernel.
    np.testing.assert_allclose(ours(), eager(torch.float64).numpy(), rtol=0, atol=1e-6)
    candidates = {"eager": eager, "C++ kernel": ours}
    compare(f"latent classes, {name}", candidates, dict.fromkeys(candidates, n_rows))
    benchmark.extra_info["unit"] = "rows/s"
