"""Time of one training step against a plain eager twin and its compiled form, in one run.

python -m bench.training_step [--quick] [--threads 2] [--output FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench import eager_training, environment, paired
from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.vsae import VSAE
from vsae_fast.native_training import NativeTrainer
from vsae_fast.objective import HideAndScore, TwoPhase
from vsae_fast.ops.draws import StreamDraws
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.presets import build_preset
from vsae_fast.training import TorchTrainer

RESULTS = Path(__file__).parent / "results" / "training_step.json"
N_ATTRIBUTES = 12
LAYOUT = AttributeLayout(("numerical",) * N_ATTRIBUTES, (1,) * N_ATTRIBUTES)
WIDE = build_preset("auto", LAYOUT, 5000, 30_000).network
CASES: dict[str, dict[str, Any]] = {
    "phase 1, paper network, batch 64": {
        "network": NetworkConfig(), "objective": TwoPhase(), "epoch": 0, "batch": 64,
        "eager": eager_training.step_phase_1, "bar": 40,
    },
    "phase 2, paper network, batch 64": {
        "network": NetworkConfig(), "objective": TwoPhase(), "epoch": 100, "batch": 64,
        "eager": eager_training.step_phase_2, "bar": 40,
    },
    "importance-weighted, K = 10, width 128, batch 256": {
        "network": WIDE, "objective": HideAndScore(n_samples=10), "epoch": 0, "batch": 256,
        "eager": eager_training.step_importance_weighted, "bar": 4,
    },
}  # fmt: skip


def candidates(case: dict[str, Any], with_compile: bool) -> dict[str, Callable[[], Any]]:
    """One step each of the eager twin, its compiled form, the package's autograd reference and the C++ trainer."""
    generator = torch.Generator().manual_seed(0)
    n_rows = case["batch"]
    x = torch.randn(n_rows, N_ATTRIBUTES, generator=generator)
    mask = (torch.rand(x.shape, generator=generator) < 0.5).float()
    rows = torch.arange(n_rows)
    clip = 5.0 if isinstance(case["objective"], HideAndScore) else None
    native = NativeTrainer(
        VSAE(LAYOUT, case["network"]), case["objective"], x, mask, max_rows=256, seed=0, clip_norm=clip
    )
    reference = TorchTrainer(
        VSAE(LAYOUT, case["network"]), case["objective"], x, mask, draws=StreamDraws(0), clip_norm=clip
    )
    twin = eager_training.EagerVSAE(N_ATTRIBUTES, case["network"])
    optimizer = torch.optim.Adam(twin.parameters(), 1e-3)
    result = {
        "eager": lambda: case["eager"](twin, optimizer, x, mask),
        "autograd reference": lambda: reference.step(rows, case["epoch"], 1e-3),
        "C++ trainer": lambda: native.step(rows, case["epoch"], 1e-3),
    }
    if with_compile:
        other = eager_training.EagerVSAE(N_ATTRIBUTES, case["network"])
        its_optimizer = torch.optim.Adam(other.parameters(), 1e-3)
        compiled = torch.compile(case["eager"])
        result["compiled eager"] = lambda: compiled(other, its_optimizer, x, mask)
    return result


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few short rounds, no torch.compile: to see that it runs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    result: dict[str, Any] = {"environment": environment.describe(arguments.threads), "cases": {}}
    for name, case in CASES.items():
        rounds, seconds = (3, 0.05) if arguments.quick else (11, 0.3)
        times = paired.alternate(candidates(case, not arguments.quick), rounds=rounds, seconds=seconds)
        result["cases"][name] = {
            "bar": case["bar"],
            "milliseconds": {key: 1e3 * statistics.median(values) for key, values in times.items()},
            "ratio": {key: paired.ratio(times, key, "C++ trainer") for key in times if key != "C++ trainer"},
        }
        for key, value in result["cases"][name]["milliseconds"].items():
            ratio = result["cases"][name]["ratio"].get(key)
            note = f"   C++ is {ratio['median']:.1f} times as fast" if ratio else ""
            print(f"{name:<52}{key:<20}{value:>9.3f} ms{note}", flush=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
