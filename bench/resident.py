"""Resident memory of this process (Linux only)."""

from __future__ import annotations

from pathlib import Path


def _field(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def forget_peak() -> int:
    """Set the recorded peak back to what is resident now, and return that, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return now()


def now() -> int:
    """Resident memory, in bytes."""
    return _field("VmRSS")


def peak() -> int:
    """Largest resident memory since then, in bytes."""
    return _field("VmHWM")
