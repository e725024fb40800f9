"""Where an imputer runs, and on which kernels."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

import torch

from vsae_fast import kernel_check
from vsae_fast.cuda import compiler
from vsae_fast.ops.importance_impute import PRECISIONS
from vsae_fast.ops.registry import GPU_BACKENDS, check_backend
from vsae_fast.tensor_core import device as tensor_core

logger = logging.getLogger("vsae_fast")

DEVICES = "'auto', 'cpu', 'cuda' or 'cuda:<number>'"


def resolve_device(device: str) -> torch.device:
    """Torch device for ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:<number>"``.

    Raises
    ------
    ValueError
        Unknown name, or a GPU that is not there.
    """
    if device == "auto":
        return torch.device("cpu")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"unknown device {device!r}; use {DEVICES}") from error
    if resolved.type not in ("cpu", "cuda"):
        raise ValueError(f"unknown device {device!r}; use {DEVICES}")
    if resolved.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(f"device={device!r}, but torch sees no CUDA GPU; install a CUDA build or use device='cpu'")
        if resolved.index is not None and resolved.index >= torch.cuda.device_count():
            raise ValueError(f"device={device!r}, but there are only {torch.cuda.device_count()} GPU(s)")
    return resolved


def check_place(device_name: str, backend: str, precision: Any) -> torch.device:
    """Device of a name, once backend and precision are known to go with it.

    Raises
    ------
    ValueError
        Unknown name, a GPU that is not there, or a device or precision that is none of the backend's.
    ImportError
        What the backend needs is not installed.
    """
    check_backend(backend)
    device = resolve_device(device_name)
    if backend in GPU_BACKENDS:
        if device.type != "cuda":
            raise ValueError(f"backend={backend!r} needs device='cuda', got device={device_name!r}")
        (compiler if backend == "cuda" else tensor_core).check_device(device)
    if precision is None:
        return device
    known = ("float32", *PRECISIONS)
    if precision not in known:
        raise ValueError(f"unknown precision {precision!r}; use one of {', '.join(map(repr, known))}")
    if backend == "auto" and device.type == "cuda" and precision in PRECISIONS:
        tensor_core.check_device(device)  # the precision names the kernels
    elif (precision == "float32") == (backend == "triton"):
        other = "another backend" if backend == "triton" else "backend='triton'"
        raise ValueError(f"backend={backend!r} does not multiply in {precision}; use {other}, or leave precision out")
    return device


def choose_backend(device: torch.device, backend: str, precision: str | None) -> str:
    """Backend that runs; what was named, and for ``"auto"`` on a GPU the kernels of the precision.

    They are tensor cores' for the precisions of tensor cores and CUDA's for float32, which is meant where no precision
    is named. A warning says where plain PyTorch runs in place of CUDA's, and why.

    Parameters
    ----------
    device : torch.device
    backend, precision
        That :func:`check_place` let pass.
    """
    if backend != "auto" or device.type != "cuda":
        return backend
    return "triton" if precision in PRECISIONS else _float32_kernels(device)


@lru_cache(maxsize=16)
def _float32_kernels(device: torch.device) -> str:
    """``"cuda"``, or ``"reference"`` and a warning, which is given once."""
    try:
        compiler.check_device(device)
        logger.info("trying the CUDA kernels on %s; they are compiled at first use", device)
        reason = kernel_check.difference("cuda", device)
    except (ImportError, ValueError) as error:
        reason = str(error)
    if reason is None:
        return "cuda"
    logger.warning("plain PyTorch runs on %s, not our kernels: %s", device, reason)
    return "reference"
