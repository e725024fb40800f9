"""Throughput of importance_impute against eager and compiled PyTorch, in one run.

python -m bench.importance_impute [--quick] [--threads 2] [--output FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch

from bench import eager, environment, paired
from vsae_fast import _native
from vsae_fast.models.vsae import VSAE
from vsae_fast.ops.folded_decoders import FoldedDecoders
from vsae_fast.ops.importance_impute import importance_impute
from vsae_fast.ops.layout import AttributeLayout

RESULTS = Path(__file__).parent / "results" / "importance_impute.json"
N_ATTRIBUTES, N_SAMPLES = 12, 1000
EAGER_ROWS = (16, 64, 256)  # rows at once: what fits the cache best, the batch of training, a plain large batch
KERNEL_ROWS = 2048


def make_model(generator: torch.Generator) -> VSAE:
    """Paper network over twelve numbers, with parameters and running statistics away from their initial values."""
    model = VSAE(AttributeLayout(("numerical",) * N_ATTRIBUTES, (1,) * N_ATTRIBUTES)).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "running_var" in name:
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            elif tensor.is_floating_point():
                tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
    return model


def flop_per_sample(decoders: FoldedDecoders, observed_share: float) -> float:
    """Multiply-adds that one sample of one row needs after folding, counted as two operations each.

    Dense layers, the outputs of observed attributes only, and the weighted sum of the last hidden vector; likelihood
    terms, exponentials and random numbers are not counted, so the share of the peak is a lower bound.
    """
    layers = [*decoders.mask_layers, *decoders.data_layers]
    products = sum(layer.weight.numel() for layer in layers)
    hidden = decoders.output.weight.shape[1]
    return 2 * (products + observed_share * decoders.output.weight.numel() + hidden)


def measure(n_threads: int, rounds: int, seconds: float, with_compile: bool) -> dict[str, Any]:
    """One run; rows per second of every candidate and ratios from neighbours in time."""
    torch.set_num_threads(n_threads)
    generator = torch.Generator().manual_seed(0)
    model = make_model(generator)
    decoders = model.folded(torch.float32)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    mean, x, noise = (
        randn(KERNEL_ROWS, model.n_latent),
        randn(KERNEL_ROWS, N_ATTRIBUTES),
        randn(N_SAMPLES, model.n_latent),
    )
    scale = torch.rand(mean.shape, generator=generator) + 0.1
    mask = (torch.rand(x.shape, generator=generator) < 0.5).float()

    def first(n_rows: int) -> tuple[torch.Tensor, ...]:
        return mean[:n_rows], scale[:n_rows], x[:n_rows], mask[:n_rows], noise

    # The candidates must agree before their times mean anything.
    ours, theirs = importance_impute(*first(64), decoders), eager.importance_impute(model, *first(64))
    torch.testing.assert_close(ours.imputed, theirs.imputed, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(ours.log_evidence, theirs.log_evidence, rtol=1e-4, atol=1e-3)

    rows = {"kernel": KERNEL_ROWS, **{f"eager, {n} rows": n for n in EAGER_ROWS}}
    candidates = {f"eager, {n} rows": (lambda n=n: eager.importance_impute(model, *first(n))) for n in EAGER_ROWS}
    candidates["kernel"] = lambda: importance_impute(*first(KERNEL_ROWS), decoders, n_threads=n_threads)
    if with_compile:
        compiled = torch.compile(eager.importance_impute)
        for n in EAGER_ROWS:
            rows[f"compiled, {n} rows"] = n
            candidates[f"compiled, {n} rows"] = lambda n=n: compiled(model, *first(n))
    times = paired.alternate(candidates, rounds=rounds, seconds=seconds)
    per_row = {name: [t / rows[name] for t in values] for name, values in times.items()}
    peak = max(_native.fma_peak(n_threads, 0.3) for _ in range(3))
    rates = {name: 1 / statistics.median(values) for name, values in per_row.items()}
    flop = flop_per_sample(decoders, float(mask.mean()))
    result: dict[str, Any] = {
        "environment": environment.describe(n_threads),
        "n_attributes": N_ATTRIBUTES,
        "n_samples": N_SAMPLES,
        "network": "paper",
        "rows_per_second": rates,
        "flop_per_sample": flop,
        "gflops": rates["kernel"] * N_SAMPLES * flop / 1e9,
        "fma_peak_gflops": peak,
    }
    result["share_of_peak"] = result["gflops"] / peak
    result["ratio_to_kernel"] = {name: paired.ratio(per_row, name, "kernel") for name in rates if name != "kernel"}
    return result


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few short rounds, no torch.compile: to see that it runs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    quick = arguments.quick
    result = measure(arguments.threads, 3 if quick else 11, 0.05 if quick else 0.5, with_compile=not quick)
    for name, rate in result["rows_per_second"].items():
        ratio = result["ratio_to_kernel"].get(name)
        note = f"   kernel is {ratio['median']:.1f} times as fast" if ratio else ""
        print(f"{name:<20}{rate:>12,.0f} rows/s{note}")
    print(
        f"kernel: {result['gflops']:.0f} GFLOP/s, {result['share_of_peak']:.0%} of the FMA peak "
        f"({result['fma_peak_gflops']:.0f} GFLOP/s, {result['environment']['cpu_level']}, {arguments.threads} threads)"
    )
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
