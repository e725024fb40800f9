"""Throughput of what the latent-class member computes against eager PyTorch, in one run, all in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bench.conftest import Compare, Plan
from vsae_fast.latent_classes import LatentClasses

N_ROWS, N_CLASSES = 8192, 64
WIDTHS = {"22 attributes of 2 to 12 levels": tuple(2 + j % 11 for j in range(22)), "10 attributes of 3": (3,) * 10}


@pytest.mark.parametrize("name", WIDTHS)
def test_latent_classes(name: str, plan: Plan, compare: Compare, benchmark: Any) -> None:
    """Rows per second and ratio of one case, half of the cells missing, rows drawn from the classes."""
    widths = WIDTHS[name]
    n_rows = N_ROWS // 8 if plan.quick else N_ROWS
    rng = np.random.default_rng(0)
    starts = np.concatenate([[0], np.cumsum(widths)]).astype(np.int32)
    level = np.concatenate([rng.dirichlet(np.full(width, 0.3), N_CLASSES).T for width in widths]) + 1e-4
    level /= np.repeat(np.add.reduceat(level, starts[:-1], axis=0), widths, axis=0)
    classes = LatentClasses(starts, rng.dirichlet(np.ones(N_CLASSES)), level)
    own = rng.choice(N_CLASSES, size=n_rows, p=classes.weight)
    levels = np.full((n_rows, len(widths)), -1, dtype=np.int32)
    for attribute in range(len(widths)):
        below = np.cumsum(level[starts[attribute] : starts[attribute + 1], own], axis=0)[:-1]
        drawn = (rng.random(n_rows) > below).sum(0)
        levels[:, attribute] = np.where(rng.random(n_rows) < 0.5, drawn, -1)
    place = np.repeat(np.arange(len(widths)), widths)
    one_hot = torch.from_numpy((levels[:, place] == np.arange(starts[-1]) - starts[:-1][place]).astype(np.float64))
    observed = torch.from_numpy(levels[:, place] >= 0)
    weight, by_level = torch.from_numpy(classes.weight), torch.from_numpy(level)

    def eager() -> Any:
        """All rows at once, from one-hot levels."""
        posterior = torch.softmax(one_hot @ by_level.log() + weight.log(), dim=1)
        return torch.where(observed, one_hot, posterior @ by_level.T)

    def ours() -> Any:
        return classes.probabilities(levels, plan.threads)

    # Classes of a posterior below 2e-9 of the likeliest one's count as none in the kernel.
    np.testing.assert_allclose(ours(), eager().numpy(), rtol=0, atol=np.finfo(np.float32).eps)
    candidates = {"eager": eager, "C++ kernel": ours}
    compare(f"latent classes, {name}", candidates, dict.fromkeys(candidates, n_rows))
    benchmark.extra_info["unit"] = "rows/s"
