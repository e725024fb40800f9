"""Throughput of propose against eager PyTorch, in single and double precision, in one run."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from bench.conftest import Compare, Plan
from bench.imputing import CASES, Case, make_model, make_rows
from vsae_fast.ops.propose import propose
from vsae_fast.presets import build_preset

N_ROWS = 2048  # CHUNK_ROWS of vsae_fast/imputation.py
LAYOUTS = {"proposals, 12 numbers": CASES["paper network, 12 numbers"].layout,
           "proposals, 22 categorical attributes": CASES["22 categorical attributes"].layout}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_propose(name: str, plan: Plan, compare: Compare, benchmark: Any) -> None:
    """Rows per second and ratios of one case: networks of the auto preset."""
    layout = LAYOUTS[name]
    case = Case(layout, build_preset("auto", layout, 5000, 30_000).network)
    generator = torch.Generator().manual_seed(0)
    model = make_model(case, generator)
    exact = copy.deepcopy(model).double()
    n_rows = N_ROWS // 8 if plan.quick else N_ROWS
    rows = make_rows(case, model, n_rows, generator)
    x, mask = rows["x"], rows["mask"]
    encoders = model.folded_encoders()

    def ours() -> Any:
        return propose(x, mask, encoders, n_threads=plan.threads)

    @torch.no_grad()
    def twin(network: Any, dtype: torch.dtype) -> Any:
        proposal = network.encode(x.to(dtype), mask.to(dtype))
        return proposal.mean, proposal.scale, network.decoders.context(proposal.hidden)

    torch.testing.assert_close(ours().mean[:, 0], twin(model, torch.float32)[0], rtol=1e-3, atol=1e-4)
    candidates = {
        "eager": lambda: twin(model, torch.float32),
        "eager, double precision": lambda: twin(exact, torch.float64),
        "C++ kernel": ours,
    }
    compare(name, candidates, dict.fromkeys(candidates, n_rows))
    benchmark.extra_info["unit"] = "rows/s"
