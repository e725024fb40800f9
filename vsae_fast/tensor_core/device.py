"""Which devices run the Triton kernels, and a launcher that takes what those of ``csrc/cuda`` take."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

import torch

from vsae_fast.cuda.compiler import Launch

OLDEST = (8, 0)  # Ampere, the first with tf32
HOPPER = (9, 0)


def kernels(name: str) -> ModuleType:
    """Module of ``vsae_fast.kernels``.

    Raises
    ------
    ImportError
        Triton is not installed.
    """
    try:
        return import_module(f"vsae_fast.kernels.{name}")
    except ImportError as error:
        raise ImportError("backend='triton' needs Triton; it comes with CUDA builds of torch on Linux") from error


def launcher(name: str, **constants: Any) -> Launch:
    """Launch function of a module's kernels, which take the arguments of their namesakes in CUDA.

    Parameters
    ----------
    name : str
    constants : int or bool
        What the kernels are compiled for, and ``num_warps``.
    """
    module = kernels(name)

    def launch(kernel: str, grid: tuple[int, int], arguments: Any) -> None:
        like = next(argument for argument in arguments if isinstance(argument, torch.Tensor))
        with torch.cuda.device_of(like):  # Triton launches on the current device
            getattr(module, kernel)[grid](*arguments, **constants)

    return launch


def capability_of(device: torch.device) -> tuple[int, int]:
    """Compute capability of a GPU; the oldest that will do for the interpreter's tensors on the CPU."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else OLDEST


def check_device(device: torch.device) -> None:
    """Raise where the kernels cannot run: ImportError, or ValueError for a GPU without tf32 tensor cores."""
    kernels("importance_impute")
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST:
        raise ValueError(
            f"backend='triton' needs a GPU of compute capability {OLDEST[0]}.{OLDEST[1]} (Ampere) or newer, this one "
            f"has {capability[0]}.{capability[1]}; use backend='cuda'"
        )
