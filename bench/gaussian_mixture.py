"""Throughput of what the Gaussian member computes against eager PyTorch, in one run, all in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bench.conftest import Compare, Plan
from vsae_fast.gaussian_mixture import GaussianMixture
from vsae_fast.normal_scores import fit

N_ROWS = 2048
SIZES = {  # columns, components
    "expected values, 12 columns": (12, 1),
    "expected values, 32 columns": (32, 1),
    "expected values, 12 columns, 64 components": (12, 64),
}


@pytest.mark.parametrize("name", SIZES)
def test_gaussian_mixture(name: str, plan: Plan, compare: Compare, benchmark: Any) -> None:
    """Rows per second and ratio of one case, half of the cells missing."""
    n_columns, n_components = SIZES[name]
    n_rows = N_ROWS // 8 if plan.quick else N_ROWS
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(n_columns, n_columns))
    mixture = GaussianMixture(
        rng.dirichlet(np.full(n_components, 5.0)),
        rng.normal(size=(n_components, n_columns)),
        factor @ factor.T / n_columns + 0.1 * np.eye(n_columns),
    )
    x = rng.normal(size=(n_rows, n_columns))
    observed = rng.random(x.shape) < 0.5
    weight, mean, covariance = map(torch.from_numpy, mixture)
    rows, seen = torch.from_numpy(x), torch.from_numpy(observed).double()

    def eager() -> Any:
        """All rows at once; what is not observed is a column of the identity."""
        both = covariance * seen.unsqueeze(1) * seen.unsqueeze(2) + torch.diag_embed(1 - seen)
        deviations = seen.unsqueeze(2) * (rows.unsqueeze(2) - mean.T)
        solved = torch.cholesky_solve(deviations, torch.linalg.cholesky(both))
        probability = torch.softmax(weight.log() - 0.5 * (deviations * solved).sum(1), dim=1)
        pooled = (solved @ probability.unsqueeze(2)).squeeze(2) * seen
        return torch.where(seen > 0, rows, probability @ mean + pooled @ covariance)

    def ours() -> Any:
        return mixture.complete(x, observed, plan.threads)

    np.testing.assert_allclose(ours(), eager().numpy(), rtol=1e-8, atol=1e-8)
    candidates = {"eager": eager, "C++ kernel": ours}
    compare(name, candidates, dict.fromkeys(candidates, n_rows))
    benchmark.extra_info["unit"] = "rows/s"


@pytest.mark.parametrize("n_columns", [32])
def test_score_curves(n_columns: int, plan: Plan, compare: Compare, benchmark: Any) -> None:
    """Rows per second and ratio of scores in place of numbers, by curves of 64 knots."""
    n_rows = N_ROWS if plan.quick else 8 * N_ROWS
    x = np.exp(np.random.default_rng(0).normal(size=(n_rows, n_columns)))
    curves = fit(x, np.ones(x.shape, dtype=np.bool_), np.arange(n_columns, dtype=np.int32))
    columns = torch.from_numpy(x).T.contiguous()
    knots, scores = torch.from_numpy(curves.knots), torch.from_numpy(curves.scores)
    slopes = torch.diff(scores) / torch.diff(knots)

    def eager() -> Any:
        """Column by column in memory; no number is beyond the knots."""
        left = (torch.searchsorted(knots, columns, right=True) - 1).clamp(max=knots.shape[1] - 2)
        return scores.gather(1, left) + (columns - knots.gather(1, left)) * slopes.gather(1, left)

    def ours() -> Any:
        return curves.scores_of(x, plan.threads)

    np.testing.assert_allclose(ours().T, eager().numpy(), rtol=1e-9, atol=1e-9)
    candidates = {"eager": eager, "C++ kernel": ours}
    compare(f"normal scores, {n_columns} columns", candidates, dict.fromkeys(candidates, n_rows))
    benchmark.extra_info["unit"] = "rows/s"
