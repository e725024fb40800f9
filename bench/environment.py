"""What a measurement was taken on."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

import vsae_fast
from vsae_fast import _native

ROOT = Path(__file__).parents[1]


def describe(n_threads: int) -> dict[str, Any]:
    """Machine, versions, load and commit, as plain values; the commit bears a + where code has been changed since."""
    changed = _git("status", "--porcelain", "-uno", ":!bench/results", ":!docs")
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "commit": _git("rev-parse", "--short", "HEAD") + ("+" if changed else ""),
        "vsae_fast": vsae_fast.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cpu": _cpu_model(),
        "cpu_level": _native.cpu_level(),
        "cores": os.cpu_count(),
        "threads": n_threads,
        "load_before": round(os.getloadavg()[0], 2),
    }


def _git(*arguments: str) -> str:
    result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else "unknown"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
