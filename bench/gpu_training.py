"""Training on a GPU: the attributive encoders with their gradients, and whole steps, beside plain PyTorch."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from bench import eager_training, paired
from bench.training_step import CASES, LAYOUT
from vsae_fast.models.vsae import VSAE
from vsae_fast.ops.draws import TorchDraws
from vsae_fast.ops.grouped_mlp import BatchNormState, grouped_mlp
from vsae_fast.tensor_core.device import OLDEST
from vsae_fast.torch_training import TorchTrainer

SIZES = (1, 16, 16, 4)  # of a network of the paper's for numbers
SHAPES = [(12, 64), (12, 4096), (64, 64), (64, 4096)]  # attributes, rows
Synchronized = Callable[[Callable[[], Any]], Callable[[], Any]]


def backends(device: torch.device) -> dict[str, str]:
    """Our kernels that run on the device, by what they are called in results."""
    if device.type == "cpu":
        return {"C++ kernels": "cpu"}
    named = {"CUDA kernels": "cuda"}
    return named | ({"Triton kernels": "triton"} if torch.cuda.get_device_capability(device) >= OLDEST else {})


def _rates(
    candidates: dict[str, Callable[[], Any]], ours: dict[str, Callable[[], Any]], whole: Synchronized, quick: bool
) -> dict[str, Any]:
    synchronized = {name: whole(run) for name, run in (candidates | ours).items()}
    times = paired.alternate(synchronized, rounds=3 if quick else 7, seconds=0.02 if quick else 0.2)
    rates = {name: 1 / statistics.median(values) for name, values in times.items()}
    return {
        "per_second": rates,
        "times_as_fast": {own: {name: rates[own] / rates[name] for name in candidates} for own in ours},
    }


def measure_grouped_mlp(device: torch.device, quick: bool, whole: Synchronized) -> list[dict[str, Any]]:
    """Forward and backward of many small networks, in training mode."""
    results = []
    for n_attributes, n_rows in [(3, 16)] if quick else SHAPES:
        generator = torch.Generator().manual_seed(0)

        def randn(*shape: int, generator: torch.Generator = generator) -> torch.Tensor:
            return torch.randn(*shape, generator=generator).to(device)

        x, mask = randn(n_rows, n_attributes, 1), (randn(n_rows, n_attributes) > 0).float()
        weights = [randn(n_attributes, a, b).requires_grad_() for a, b in pairwise(SIZES)]
        biases = [randn(n_attributes, b).requires_grad_() for b in SIZES[1:]]
        norms = [
            BatchNormState(*(torch.ones(n_attributes, h, device=device, requires_grad=i == 0) for i in range(4)))
            for h in SIZES[1:-1]
        ]
        separate = nn.ModuleList(eager_training.mlp(SIZES, norm="all", slope=0.01) for _ in range(n_attributes)).to(
            device
        )

        def eager(x: torch.Tensor = x, separate: nn.ModuleList = separate) -> None:
            torch.stack([net(part) for part, net in zip(x.unbind(1), separate, strict=True)]).sum().backward()

        def op(backend: str, arguments: Any = (x, mask, weights, biases, norms)) -> None:
            grouped_mlp(*arguments, True, backend=backend).sum().backward()

        candidates: dict[str, Callable[[], Any]] = {
            "eager": eager,
            "batched products": lambda op=op: op("reference"),
        }
        ours = {name: partial(op, backend) for name, backend in backends(device).items()}
        shape = {"n_attributes": n_attributes, "n_rows": n_rows}
        results.append(shape | _rates(candidates, ours, whole, quick))
    return results


def measure_steps(device: torch.device, quick: bool, whole: Synchronized) -> list[dict[str, Any]]:
    """Training steps per second of every case of bench.training_step."""
    results = []
    for name, case in list(CASES.items())[: 1 if quick else None]:
        layout = case.get("layout", LAYOUT)
        generator = torch.Generator().manual_seed(0)
        n_rows = case["batch"]
        x = torch.randn(n_rows, layout.n_columns, generator=generator).to(device)
        mask = (torch.rand(n_rows, layout.n_attributes, generator=generator) < 0.5).float().to(device)
        rows = torch.arange(n_rows, device=device)
        twin = eager_training.EagerVSAE(layout.n_attributes, case["network"], layout.widths[0]).to(device)
        optimizer = torch.optim.Adam(twin.parameters(), 1e-3)

        def trainer(
            backend: str, *, graphs: bool = False, case: Any = case, layout: Any = layout, data: Any = (x, mask, rows)
        ) -> Callable[[], Any]:
            x, mask, rows = data
            model = VSAE(layout, case["network"]).to(device)
            draws = TorchDraws(torch.Generator(device).manual_seed(0))
            own = TorchTrainer(model, case["objective"], x, mask, draws=draws, backend=backend, graphs=graphs)
            return lambda: own.step(rows, case["epoch"], 1e-3)

        candidates = {
            "eager": lambda case=case, given=(twin, optimizer, x, mask): case["eager"](*given),
            "torch's ops": trainer("reference"),
        }
        ours = {own: trainer("auto" if backend == "cpu" else backend) for own, backend in backends(device).items()}
        if device.type == "cuda":
            named = {"torch's ops": "reference", **backends(device)}
            ours |= {f"{own}, CUDA graph": trainer(backend, graphs=True) for own, backend in named.items()}
        results.append({"case": name} | _rates(candidates, ours, whole, quick))
    return results
