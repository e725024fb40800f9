"""What is refused before a stream begins, and before anything is changed."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

from vsae_fast.parquet_source import ParquetFiles
from vsae_fast.placement import resolve_device
from vsae_fast.source_files import SourceFiles
from vsae_fast.text_source import ENDINGS, TextFiles


def check_options(
    on_error: str, engine: str, devices: Sequence[str] | None, address: str | None, concurrency: int | None
) -> None:
    """Raise ValueError for options that do not exist or do not go together."""
    if on_error not in ("raise", "skip"):
        raise ValueError(f"unknown on_error {on_error!r}; use 'raise' or 'skip'")
    if engine not in ("local", "ray"):
        raise ValueError(f"unknown engine {engine!r}; use 'local' or 'ray'")
    if engine == "local" and (address is not None or concurrency is not None):
        raise ValueError("address and concurrency are for engine='ray'; leave them out")
    if engine == "ray" and devices is not None:
        raise ValueError("devices is for engine='local'; leave it out")
    if devices is not None:
        _check_devices(devices)


def _check_devices(devices: Sequence[str]) -> None:
    if isinstance(devices, str) or not devices:
        raise ValueError(f"devices must be a list of one device or more, such as ['cuda:0', 'cuda:1'], got {devices!r}")
    kinds = {resolve_device(device).type for device in devices}
    if len(kinds) > 1:
        raise ValueError(
            f"devices mixes {' and '.join(sorted(kinds))}, whose results differ in the last digits; name one"
        )


def check_ignored(files: ParquetFiles, ignore: Sequence[str]) -> None:
    """Raise ValueError for columns that are not there, or that have to be ignored."""
    names = files.schema.names
    for name in ignore:
        if name not in names:
            raise ValueError(f"ignore names {name!r}, but {files.paths[0]} has no such column; it has {names[:10]}")
    if set(names) <= set(ignore):
        raise ValueError("every column is ignored; leave one")
    times = [name for name in names if name not in ignore and files.is_time_of_day(name)]
    if times:
        raise ValueError(
            f"column {times[0]!r} holds times of day; pass ignore=[{times[0]!r}] to leave it as it is, or turn it "
            "into numbers first"
        )


def check_target(files: SourceFiles, out: Path, targets: Sequence[Path], overwrite: bool) -> None:
    """Raise where the target cannot be: in the source, of another kind, or there already."""
    if isinstance(files, TextFiles) and files.single and out.suffix.lower() in ENDINGS:
        raise ValueError(f"text files become Parquet files; name the target {out.stem}.parquet instead of {out.name}")
    if files.single and out.is_dir():
        raise ValueError(f"{out} is a folder and the source is one file; name a file in it")
    if not files.single and out.is_file():
        raise FileExistsError(f"{out} is a file and the source is several; name a folder")
    sources = {path.resolve() for path in files.paths}
    inside = files.root is not None and files.root.resolve() in (out.resolve(), *out.resolve().parents)
    if inside or any(path.resolve() in sources for path in targets):
        raise ValueError(f"{out} lies in the source; choose another target")
    existing = [path for path in targets if path.exists()]
    if existing and not overwrite:
        raise FileExistsError(f"{existing[0]} exists; pass overwrite=True to replace it")


def make_folder(work: Path) -> None:
    """Make the work folder; PermissionError where that is not allowed."""
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise PermissionError(f"{work.parent} cannot be written to; choose another target") from error
