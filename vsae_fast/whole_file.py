"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path, folder: Path | None = None) -> Iterator[Path]:
    """Give a temporary name to write to; it is synced and takes its name at the end, or is removed.

    Parameters
    ----------
    path : Path
    folder : Path, optional
        Of the temporary file, on the same file system: a process that is killed leaves it behind. Beside ``path``
        where it is left out.
    """
    temporary = (folder or path.parent) / f".{path.name}.{os.getpid()}.tmp"
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)  # noqa: PTH105 - the atomic one
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
