"""``vsae-fast info``."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

import click

from vsae_fast.cli.options import JSON, report

LIBRARIES = (
    "torch",
    "numpy",
    "scikit-learn",
    "narwhals",
    "safetensors",
    "pyarrow",
    "matplotlib",
    "cuda-core",
    "triton",
)


@click.command()
@JSON
def info(as_json: bool) -> None:
    """Print versions, processor level, GPUs, and which kernels would run."""
    import torch

    import vsae_fast
    from vsae_fast import _native

    summary: dict[str, Any] = {
        "vsae_fast": vsae_fast.__version__,
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "processor": {"levels": _native.cpu_levels(), "level": _native.cpu_level(), "threads": torch.get_num_threads()},
        "gpus": _gpus(torch),
        "kernels": _kernels(torch, _native.cpu_level()),
    }
    lines = [f"vsae_fast {summary['vsae_fast']}, Python {summary['python']}"]
    lines += [f"  {name} {version or 'not installed'}" for name, version in summary["libraries"].items()]
    processor = summary["processor"]
    lines.append(f"processor: {processor['level']} of {', '.join(processor['levels'])}; {processor['threads']} threads")
    lines += [f"GPU {i}: {gpu['name']}, sm_{gpu['sm']}" for i, gpu in enumerate(summary["gpus"])] or ["GPU: none"]
    lines.append("kernels:")
    lines += [f"  {name}: {why}" for name, why in summary["kernels"].items()]
    report(summary, "\n".join(lines), as_json=as_json)


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _gpus(torch: Any) -> list[dict[str, Any]]:
    if not torch.cuda.is_available():
        return []
    devices = range(torch.cuda.device_count())
    return [
        {"name": torch.cuda.get_device_name(i), "sm": "".join(map(str, torch.cuda.get_device_capability(i)))}
        for i in devices
    ]


def _kernels(torch: Any, level: str) -> dict[str, str]:
    """Whether each backend would run, and why."""
    forced = " (VSAE_FAST_CPU)" if os.environ.get("VSAE_FAST_CPU") else ""
    kernels = {
        "device='auto'": "the CPU; GPUs are used where device='cuda' asks for one",
        "backend='auto'": "C++ on the CPU; on a GPU CUDA kernels where they are right there, else plain PyTorch",
        "backend='cpu'": f"runs: C++ for {level}{forced}",
        "backend='reference'": "runs: plain PyTorch, on any device",
    }
    if not torch.cuda.is_available():
        built = torch.version.cuda is not None
        why = (
            "torch sees no CUDA GPU; check the driver"
            if built
            else "this torch has no CUDA; install a CUDA build of it"
        )
        return kernels | {"backend='cuda'": f"cannot run: {why}", "backend='triton'": f"cannot run: {why}"}
    from vsae_fast.cuda import compiler
    from vsae_fast.tensor_core import device as tensor_core

    for name, module in (("cuda", compiler), ("triton", tensor_core)):
        try:
            module.check_device(torch.device("cuda", 0))
            kernels[f"backend={name!r}"] = "runs on GPU 0, where it is asked for"
        except (ValueError, ImportError, RuntimeError) as error:
            kernels[f"backend={name!r}"] = f"cannot run: {error}"
    return kernels
