"""Datetimes and durations as numbers: seconds since 1970 in UTC, and seconds."""

from __future__ import annotations

import datetime
import numbers
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

TimeKind = Literal["datetime", "duration"]
PythonTime = Literal["date", "datetime", "timedelta", ""]

# What imputed values are rounded to: a day, an hour, a minute, a second, a millisecond, a microsecond; in microseconds.
STEPS = (86_400_000_000, 3_600_000_000, 60_000_000, 1_000_000, 1_000, 1)
UNITS = dict(zip(STEPS, ("D", "h", "m", "s", "ms", "us"), strict=True))
TIME_DTYPES = {"datetime": "datetime64[us]", "duration": "timedelta64[us]"}
PYTHON_TYPES: dict[TimeKind, tuple[type, ...]] = {
    "datetime": (datetime.date, np.datetime64),
    "duration": (datetime.timedelta, np.timedelta64),
}


def kind_of_value(value: Any) -> TimeKind | None:
    """Kind of one time; None of anything else."""
    return next((kind for kind, types in PYTHON_TYPES.items() if isinstance(value, types)), None)


def to_seconds(times: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Seconds of each time, 0 where there is none, and which have none.

    Parameters
    ----------
    times : numpy.ndarray of datetime64 or timedelta64

    Returns
    -------
    seconds : numpy.ndarray of float64
        Exact to the microsecond between the years 1834 and 2105.
    missing : numpy.ndarray of bool
    """
    missing = np.isnat(times)
    microseconds = times.astype(f"{times.dtype.kind}8[us]").astype(np.int64)
    return np.where(missing, 0, microseconds) / 1e6, missing


def number_of(kind: TimeKind, value: Any) -> float:
    """Seconds of one time of any type, such as ``datetime.date``, ``pandas.Timestamp``, ``"2024-05-01"``.

    Raises
    ------
    ValueError, TypeError
        It is none.
    """
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        value = value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    if kind_of_value(value) is None and isinstance(value, numbers.Real):  # of which NumPy has durations be some
        raise TypeError(f"{value!r} is a number")
    time = np.datetime64(value, "us") if kind == "datetime" else np.timedelta64(value, "us")
    if np.isnat(time):
        raise ValueError(f"{value!r} is no time")
    return float(to_seconds(np.array([time]))[0][0])


def coarsest_step(seconds: npt.NDArray[np.float64]) -> int:
    """Largest of the steps, in microseconds, that all times are multiples of."""
    microseconds = np.rint(seconds * 1e6).astype(np.int64)
    return next((step for step in STEPS if not (microseconds % step).any()), STEPS[-1])


def from_seconds(
    kind: TimeKind, seconds: npt.NDArray[np.float64], step: int, low: float | None, high: float | None
) -> npt.NDArray[Any]:
    """Times to the nearest multiple of ``step`` microseconds that lies between two limits in seconds."""
    steps = np.rint(seconds * 1e6 / step)
    if low is not None and np.isfinite(low):
        steps = np.maximum(steps, np.ceil(np.rint(low * 1e6) / step))
    if high is not None and np.isfinite(high):
        steps = np.minimum(steps, np.floor(np.rint(high * 1e6) / step))
    return (steps.astype(np.int64) * step).astype(TIME_DTYPES[kind])


def in_words(kind: TimeKind, seconds: float, step: int) -> str:
    """One time as text, no finer than ``step``."""
    if kind == "duration":
        return duration_in_words(seconds)
    time = from_seconds(kind, np.array([seconds]), step, None, None).astype(f"datetime64[{UNITS[step]}]")[0]
    return str(time).replace("T", " ")


def duration_in_words(seconds: float) -> str:
    """A duration in the largest unit that it holds one of."""
    for length, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if abs(seconds) >= length:
            return f"{seconds / length:.4g} {name}"
    return f"{seconds:.4g} s"
