"""Measure a GPU and the ops on it against eager and compiled PyTorch, in one process.

python -m bench.gpu [--quick] [--device cuda] [--results FOLDER]

Bandwidth of a copy and the rate of large matrix products come first; then the encoders, training, a whole table of ten
million rows, and every case of importance_impute in turns with its opponents. Writes gpu-<name of the device>.json.
`--device cpu` runs the same on the CPU, to see that it does.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench import eager, environment, paired
from bench.gpu_table import measure_table
from bench.gpu_training import backends, measure_grouped_mlp, measure_steps
from bench.imputing import CASES, Case, flop_per_sample, make_model, make_rows
from vsae_fast.ops.importance_impute import PRECISIONS, importance_impute
from vsae_fast.ops.propose import propose
from vsae_fast.presets import build_preset
from vsae_fast.tensor_core.device import OLDEST

RESULTS = Path(__file__).parent / "results"
ROWS = {"paper network, 12 numbers": 200_000}  # of a call of the kernel; the other cases take ROWS_ELSEWHERE
ROWS_ELSEWHERE = 20_000
EAGER_ROWS = (256, 1024, 4096)
COPY_FLOATS, PRODUCT = 1 << 28, 8192


def main() -> None:
    """Measure and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small and short: to see that it runs")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA GPU; --device cpu --quick shows that the benchmark runs")
    result = {
        "device": describe(device),
        "environment": environment.describe(torch.get_num_threads()),
        "ceilings": ceilings(device, arguments.quick),
        "propose": measure_propose(device, arguments.quick),
        "grouped_mlp": measure_grouped_mlp(device, arguments.quick, partial(synchronized, device)),
        "training_step": measure_steps(device, arguments.quick, partial(synchronized, device)),
        "table": measure_table(device, arguments.quick),
        "importance_impute": [],
    }
    for name in ("propose", "grouped_mlp", "training_step", "table"):
        print(json.dumps(result[name], indent=1), flush=True)
    for name, case in CASES.items():
        result["importance_impute"].append(measure(name, case, device, arguments.quick, result["ceilings"]))
        print(json.dumps(result["importance_impute"][-1], indent=1), flush=True)
    arguments.results.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^a-z0-9]+", "-", result["device"]["name"].lower()).strip("-")
    (arguments.results / f"gpu-{name}.json").write_text(json.dumps(result, indent=1) + "\n")


def describe(device: torch.device) -> dict[str, Any]:
    """Name, capability and versions; nothing about the host."""
    if device.type == "cpu":
        return {"name": "cpu"}
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }


def synchronized(device: torch.device, run: Callable[[], Any]) -> Callable[[], Any]:
    """Run that ends when the device has."""

    def whole() -> Any:
        result = run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return result

    return whole


def ceilings(device: torch.device, quick: bool) -> dict[str, float]:
    """Copy bandwidth in GB/s, reads and writes together, and rates of matrix products in GFLOP/s."""
    shrink = 64 if quick else 1
    source = torch.randn(COPY_FLOATS // shrink, device=device)
    target = torch.empty_like(source)
    n = PRODUCT // (16 if quick else 1)
    a, b = (torch.randn(n, n, device=device) for _ in range(2))

    def product(tf32: bool) -> Callable[[], Any]:
        def run() -> Any:
            torch.backends.cuda.matmul.allow_tf32 = tf32
            result = a @ b
            torch.backends.cuda.matmul.allow_tf32 = False
            return result

        return run

    candidates = {"copy": lambda: target.copy_(source), "float32": product(False), "tf32": product(True)}
    whole = {name: synchronized(device, run) for name, run in candidates.items()}
    times = paired.alternate(whole, rounds=3 if quick else 11, seconds=0.05 if quick else 0.3)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    return {
        "copy_gb_per_s": 8 * source.numel() / seconds["copy"] / 1e9,
        "float32_gflops": 2 * n**3 / seconds["float32"] / 1e9,
        "tf32_gflops": 2 * n**3 / seconds["tf32"] / 1e9,
    }


def measure_propose(device: torch.device, quick: bool) -> dict[str, Any]:
    """Rates of the encoders of imputation, auto's networks for twelve numbers, beside eager and compiled PyTorch."""
    layout = CASES["paper network, 12 numbers"].layout
    case = Case(layout, build_preset("auto", layout, 5000, 30_000).network)
    generator = torch.Generator().manual_seed(0)
    model = make_model(case, generator)
    n_rows = 64 if quick else ROWS_ELSEWHERE
    rows = make_rows(case, model, n_rows, generator)
    x, mask = rows["x"].to(device), rows["mask"].to(device)
    model = model.to(device)
    encoders = model.folded_encoders(torch.float32)

    @torch.no_grad()
    def twin() -> Any:
        proposal = model.encode(x, mask)
        return proposal.mean, proposal.scale, model.decoders.context(proposal.hidden)

    ours = {name: partial(propose, x, mask, encoders, backend=backend) for name, backend in backends(device).items()}
    candidates: dict[str, Callable[[], Any]] = {"eager": twin}
    if not quick:
        candidates["compiled"] = torch.compile(twin)
    expected = twin()[0]
    errors = {name: float((run().mean[:, 0] - expected).norm() / expected.norm()) for name, run in ours.items()}
    whole = {name: synchronized(device, run) for name, run in (candidates | ours).items()}
    times = paired.alternate(whole, rounds=3 if quick else 7, seconds=0.02 if quick else 0.3)
    rates = {name: n_rows / statistics.median(values) for name, values in times.items()}
    return {
        "n_rows": n_rows,
        "rows_per_second": rates,
        "times_as_fast": {own: {name: rates[own] / rates[name] for name in candidates} for own in ours},
        "relative_error_to_eager": errors,
    }


def measure(name: str, case: Case, device: torch.device, quick: bool, peaks: dict[str, float]) -> dict[str, Any]:
    """Rates of one case and their ratios to the kernel's."""
    generator = torch.Generator().manual_seed(0)
    model = make_model(case, generator)
    n_rows = 32 if quick else ROWS.get(name, ROWS_ELSEWHERE)
    rows = {key: value.to(device) for key, value in make_rows(case, model, n_rows, generator).items()}
    noise = torch.randn(case.n_samples, model.n_latent, generator=generator).to(device)
    model = model.to(device)
    decoders = model.folded(torch.float32)
    context = model.decoders.fold_context(rows["hidden"])
    context = None if context is None else context.detach()
    ours: dict[str, dict[str, str]] = {"C++ kernel": {"backend": "cpu"}}
    if device.type == "cuda":
        ours = {"CUDA kernel": {"backend": "cuda"}}
        if torch.cuda.get_device_capability(device) >= OLDEST:
            ours |= {f"Triton, {p}": {"backend": "triton", "precision": p} for p in PRECISIONS}

    def first(n: int) -> tuple[torch.Tensor, ...]:
        return tuple(rows[key][:n] for key in ("mean", "scale", "x", "mask"))

    def kernel(options: dict[str, str], n: int) -> Any:
        return importance_impute(
            *first(n), noise, decoders, context=None if context is None else context[:n], **options
        )

    def twin(run: Any, n: int) -> Callable[[], Any]:
        return lambda: run(model, *first(n), noise, rows["hidden"][:n])

    imputed, _, _ = eager.importance_impute(model, *first(8), noise, rows["hidden"][:8])
    errors, unfit = {}, {}
    for key, options in ours.items():
        try:
            result = kernel(options, 8)
            errors[key] = float((result.imputed - imputed).norm() / imputed.norm())
        except (RuntimeError, ValueError) as error:  # too wide for the device: told, not hidden
            unfit[key] = str(error).splitlines()[0]

    items: dict[str, int] = {}
    candidates: dict[str, Callable[[], Any]] = {}
    runs = {"eager": eager.importance_impute}
    if not quick:
        runs["compiled"] = torch.compile(eager.importance_impute)
    for kind, run in runs.items():
        for n in (8,) if quick else EAGER_ROWS:
            items[f"{kind}, {n} rows"], candidates[f"{kind}, {n} rows"] = n, twin(run, n)
    for key in errors:
        items[key], candidates[key] = n_rows, partial(kernel, ours[key], n_rows)
    fitting = {}
    for key, run in candidates.items():
        try:
            fitting[key] = synchronized(device, run)
            fitting[key]()
        except torch.OutOfMemoryError:
            fitting.pop(key)
    times = paired.alternate(fitting, rounds=3 if quick else 7, seconds=0.02 if quick else 0.3)
    rates = {key: items[key] / statistics.median(values) for key, values in times.items()}
    flop = flop_per_sample(decoders, rows["mask"])
    gflops = {key: rates[key] * case.n_samples * flop / 1e9 for key in errors if key in rates}
    peak = {key: peaks["tf32_gflops" if "Triton" in key else "float32_gflops"] for key in gflops}
    return {
        "case": name,
        "n_samples": case.n_samples,
        "n_rows": n_rows,
        "rows_per_second": rates,
        "times_as_fast": {
            key: {other: rates[key] / rate for other, rate in rates.items() if other not in errors} for key in gflops
        },
        "relative_error_to_eager": errors,
        "not_run": unfit,
        "flop_per_sample": flop,
        "gflops": gflops,
        "share_of_measured_product": {key: rate / peak[key] for key, rate in gflops.items()},
    }


if __name__ == "__main__":
    main()
