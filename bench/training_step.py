"""Time of one training step against a plain eager twin and its compiled form, in one run."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from bench import eager_training
from bench.bars import BARS
from bench.conftest import Compare, Plan
from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.vsae import VSAE
from vsae_fast.native_training import NativeTrainer
from vsae_fast.objective import HideAndScore, TwoPhase
from vsae_fast.ops.draws import StreamDraws
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.presets import build_preset, paper
from vsae_fast.torch_training import TorchTrainer

LAYOUT = AttributeLayout(("numerical",) * 12, (1,) * 12)
IMAGES = AttributeLayout(("numerical",) * 2, (784,) * 2)
LEVELS = AttributeLayout(("categorical",) * 22, (6,) * 22)
WIDE = replace(build_preset("auto", LAYOUT, 5000, 30_000).network, data_hidden=(128, 128))
CASES: dict[str, dict[str, Any]] = {
    "phase 1, batch 64": {
        "network": NetworkConfig(), "objective": TwoPhase(), "epoch": 0, "batch": 64,
        "eager": eager_training.step_phase_1,
    },
    "phase 2, batch 64": {
        "network": NetworkConfig(), "objective": TwoPhase(), "epoch": 100, "batch": 64,
        "eager": eager_training.step_phase_2,
    },
    "phase 2, two images of 784 pixels, batch 64": {
        "network": paper(IMAGES).network, "objective": TwoPhase(), "epoch": 100, "batch": 64, "layout": IMAGES,
        "eager": eager_training.step_phase_2,
    },
    "importance-weighted, K = 10, width 128, batch 256": {
        "network": WIDE, "objective": HideAndScore(n_samples=10), "epoch": 0, "batch": 256,
        "eager": eager_training.step_importance_weighted,
    },
    "importance-weighted, K = 5, 22 attributes of 6 levels, batch 128": {
        "network": build_preset("auto", LEVELS, 8000, 90_000).network, "objective": HideAndScore(), "epoch": 0,
        "batch": 128, "layout": LEVELS, "eager": partial(eager_training.step_importance_weighted, n_samples=5),
        "twin": eager_training.EagerLevelsVSAE,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_training_step(name: str, plan: Plan, compare: Compare, benchmark: Any) -> None:
    """Steps per second and ratios of one case."""
    case = CASES[name]
    layout: AttributeLayout = case.get("layout", LAYOUT)
    assert name in BARS or layout is not LAYOUT  # the others have no bar
    generator = torch.Generator().manual_seed(0)
    n_rows = case["batch"]
    x = torch.randn(n_rows, layout.n_columns, generator=generator)
    if layout is LEVELS:
        x = x.view(n_rows, -1, layout.widths[0])
        x = (x == x.amax(-1, keepdim=True)).float().flatten(1)
    mask = (torch.rand(n_rows, layout.n_attributes, generator=generator) < 0.5).float()
    rows = torch.arange(n_rows)
    clip = 5.0 if isinstance(case["objective"], HideAndScore) else None
    native = NativeTrainer(
        VSAE(layout, case["network"]), case["objective"], x, mask, max_rows=256, seed=0, clip_norm=clip
    )
    reference = TorchTrainer(
        VSAE(layout, case["network"]), case["objective"], x, mask, draws=StreamDraws(0), clip_norm=clip
    )

    def twin(step: Any) -> Any:
        model = case.get("twin", eager_training.EagerVSAE)(layout.n_attributes, case["network"], layout.widths[0])
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        return lambda: step(model, optimizer, x, mask)

    candidates = {"eager": twin(case["eager"])}
    if not plan.quick:
        candidates["compiled eager"] = twin(torch.compile(case["eager"]))
    candidates["autograd reference"] = lambda: reference.step(rows, case["epoch"], 1e-3)
    candidates["C++ trainer"] = lambda: native.step(rows, case["epoch"], 1e-3)
    compare(name, candidates, dict.fromkeys(candidates, 1))
    benchmark.extra_info["unit"] = "steps/s"
