"""Files that a path means, whatever their format."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SourceFiles:
    """Files of one source, in the order of their names.

    Parameters
    ----------
    paths : tuple of Path
    root : Path or None
        Folder that was given; None for a file or a pattern.
    single : bool
        Whether one file was given by its name.
    """

    paths: tuple[Path, ...]
    root: Path | None
    single: bool

    @property
    def relative(self) -> list[Path]:
        """Names of the files below the folder that was given."""
        return [path.relative_to(self.root) if self.root is not None else Path(path.name) for path in self.paths]

    def state(self) -> list[list[Any]]:
        """Name, size and time of change of each file."""
        return [
            [str(name), path.stat().st_size, path.stat().st_mtime_ns]
            for name, path in zip(self.relative, self.paths, strict=True)
        ]


def find_paths(source: Path) -> SourceFiles:
    """A file, all files below a folder but hidden ones, or what a pattern matches; perhaps none."""
    if source.is_dir():
        found = sorted(path for path in source.rglob("*") if path.is_file() and not path.name.startswith("."))
        return SourceFiles(tuple(found), source, single=False)
    if source.exists():
        return SourceFiles((source,), None, single=True)
    matched = sorted(map(Path, glob.glob(str(source), recursive=True)))  # noqa: PTH207 - absolute patterns too
    return SourceFiles(tuple(matched), None, single=False)
