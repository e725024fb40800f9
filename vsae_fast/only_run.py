"""A lock against a second run in one folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = "lock"  # in the folder


@contextmanager
def only_run(work: Path) -> Iterator[None]:
    """Hold the lock of a folder; the system lets go of it when the process ends, however it ends.

    Raises
    ------
    BlockingIOError
        Another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    with (work / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BlockingIOError(f"another run is at work in {work}; wait for it or stop it") from error
        yield
