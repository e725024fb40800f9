"""Time of one training step of the models that the VSAE is compared with, against plain eager twins, in one run."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch

from bench.conftest import Compare, Plan
from bench.eager_baselines import EagerMVAE, EagerVAE, step
from bench.training_step import LAYOUT
from vsae_fast.baseline_objectives import EvidenceBound, Subsampled
from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.mvae import MVAE
from vsae_fast.models.vae import VAE
from vsae_fast.native_training import NativeTrainer
from vsae_fast.ops.draws import StreamDraws
from vsae_fast.torch_training import TorchTrainer

BATCH = 64


class Case(NamedTuple):
    """A model, what it maximises, and its twin."""

    model: type[VAE | MVAE]
    objective: EvidenceBound | Subsampled
    eager: type[EagerVAE]


CASES = {
    "VAE, batch 64": Case(VAE, EvidenceBound(), EagerVAE),
    "MVAE, batch 64": Case(MVAE, Subsampled(), EagerMVAE),
}


@pytest.mark.parametrize("name", CASES)
def test_baseline_step(name: str, plan: Plan, compare: Compare, benchmark: Any) -> None:
    """Steps per second and ratios of one model."""
    case, config = CASES[name], NetworkConfig()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, LAYOUT.n_columns, generator=generator)
    mask = (torch.rand(BATCH, LAYOUT.n_attributes, generator=generator) < 0.5).float()
    rows = torch.arange(BATCH)
    native = NativeTrainer(case.model(LAYOUT, config), case.objective, x, mask, max_rows=256, seed=0)
    reference = TorchTrainer(case.model(LAYOUT, config), case.objective, x, mask, draws=StreamDraws(0))

    def twin(run: Any) -> Any:
        model = case.eager(LAYOUT.n_attributes, config)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        return lambda: run(model, optimizer, x, mask)

    candidates = {"eager": twin(step)}
    if not plan.quick:
        candidates["compiled eager"] = twin(torch.compile(step))
    candidates["autograd reference"] = lambda: reference.step(rows, 0, 1e-3)
    candidates["C++ trainer"] = lambda: native.step(rows, 0, 1e-3)
    compare(name, candidates, dict.fromkeys(candidates, 1))
    benchmark.extra_info["unit"] = "steps/s"
