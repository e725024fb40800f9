"""Whether a device's kernels are right there: asked once, before anybody gets them who did not name them."""

from __future__ import annotations

from functools import lru_cache

import torch

from vsae_fast.imputation import RowImputer
from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.vsae import VSAE
from vsae_fast.objective import HideAndScore, Objective, TwoPhase
from vsae_fast.ops.draws import StreamDraws
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.torch_training import TorchTrainer

LAYOUT = AttributeLayout(("numerical", "categorical", "numerical", "numerical"), (1, 3, 5, 1))
NETWORK = NetworkConfig(
    latent_per_attribute=3, numerical_hidden=(8,), categorical_hidden=(8,), collective_hidden=(16,), mask_hidden=(8,),
    data_hidden=(16, 16),
)  # fmt: skip
OBJECTIVES: tuple[Objective, ...] = (
    TwoPhase(warmup_epochs=0, n_unobserved_samples=10),
    HideAndScore(n_samples=3),
)
N_ROWS, N_SAMPLES, N_STEPS = 40, 100, 3
TOLERANCE = 1e-3  # relative for losses, standard deviations for imputed values; float32 beside float32


@lru_cache(maxsize=16)
def difference(backend: str, device: torch.device) -> str | None:
    """What is wrong with a backend's kernels on a device; None where a small model trains and imputes as in PyTorch.

    Parameters
    ----------
    backend : {"cpu", "cuda", "triton"}
    device : torch.device
    """
    try:
        for objective in OBJECTIVES:
            ours, plain = (_losses(objective, which, device) for which in (backend, "reference"))
            if not torch.allclose(ours, plain, rtol=TOLERANCE, atol=TOLERANCE):
                return f"its losses of training are not PyTorch's ({ours.tolist()}, {plain.tolist()})"
        ours, plain = (_imputed(which, device) for which in (backend, "reference"))
    except Exception as error:
        return f"{type(error).__name__}: {error}".partition("\n")[0]
    furthest = float((ours - plain).abs().max())
    return None if furthest <= TOLERANCE else f"its imputed values are up to {furthest:.2g} off PyTorch's"


def _model(device: torch.device) -> VSAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VSAE(LAYOUT, NETWORK).to(device)


def _rows(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N_ROWS, LAYOUT.n_columns, generator=generator)
    levels = slice(LAYOUT.starts[1], LAYOUT.starts[2])
    x[:, levels] = torch.eye(LAYOUT.widths[1])[torch.randint(LAYOUT.widths[1], (N_ROWS,), generator=generator)]
    mask = (torch.rand(N_ROWS, LAYOUT.n_attributes, generator=generator) < 0.7).float()
    return x.to(device), mask.to(device)


def _losses(objective: Objective, backend: str, device: torch.device) -> torch.Tensor:
    """Of a few steps: the later ones depend on the gradients."""
    x, mask = _rows(device)
    trainer = TorchTrainer(_model(device), objective, x, mask, draws=StreamDraws(0), backend=backend)
    rows = torch.arange(N_ROWS).to(device)
    return torch.stack([trainer.step(rows, 0, 1e-2) for _ in range(N_STEPS)]).cpu()


def _imputed(backend: str, device: torch.device) -> torch.Tensor:
    imputer = RowImputer(_model(device).eval(), seed=0, n_samples=N_SAMPLES, backend=backend)
    return imputer.run(*_rows(device)).imputed
