"""Launches of kernels/fill_unobserved.py."""

from __future__ import annotations

from typing import Any

import torch

from vsae_fast.cuda.dense import THREADS
from vsae_fast.cuda.fill_unobserved import run, run_backward
from vsae_fast.tensor_core.device import launcher


def fill_unobserved(*arguments: Any) -> torch.Tensor:
    """:func:`vsae_fast.cuda.fill_unobserved.run` with Triton's kernel."""
    return run(launcher("fill_unobserved", BLOCK=THREADS), *arguments)


def fill_unobserved_backward(*arguments: Any) -> torch.Tensor:
    """:func:`vsae_fast.cuda.fill_unobserved.run_backward` with Triton's kernel."""
    return run_backward(launcher("fill_unobserved", BLOCK=THREADS), *arguments)
