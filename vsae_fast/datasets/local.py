"""Where a set's files are: in the caller's folder, or downloaded into the cache."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

Folder = str | os.PathLike[str] | None
VARIABLE = "VSAE_FAST_DATA"


class Remote(NamedTuple):
    """A file that can be downloaded.

    Attributes
    ----------
    url : str
    md5 : str or None
        Published digest; None where the content is checked after reading.
    """

    url: str
    md5: str | None = None


def data_folder(folder: Folder, name: str) -> Path | None:
    """Folder of one set, if there is one.

    Raises
    ------
    FileNotFoundError
        ``folder`` was given and is no folder.
    """
    chosen = folder or os.environ.get(VARIABLE)
    if not chosen:
        return None
    if not Path(chosen).is_dir():
        raise FileNotFoundError(f"there is no folder {os.fspath(chosen)}; put the data there or leave folder out")
    own = Path(chosen) / name
    return own if own.is_dir() else None


def find(folder: Path | None, names: Sequence[str]) -> Path | None:
    """First of the names that is a file in the folder."""
    if folder is None:
        return None
    return next((folder / name for name in names if (folder / name).is_file()), None)


def obtain(folder: Path | None, name: str, remote: Remote, into: str) -> Path:
    """Path of a file: in the folder, else in the cache, where it is downloaded to and checked once.

    Parameters
    ----------
    folder : Path or None
        Of the set.
    name : str
    remote : Remote
    into : str
        Name of the set, a folder in the cache.

    Raises
    ------
    FileNotFoundError
        It can neither be found nor downloaded; the message says where it would be looked for.
    ModuleNotFoundError
        A download is needed, and the extra ``datasets`` is not installed.
    """
    local = find(folder, [name])
    if local is not None:
        return local
    place = f"put {name} into FOLDER/{into} and pass folder=FOLDER, or set {VARIABLE}=FOLDER"
    try:
        import pooch
    except ModuleNotFoundError as error:
        message = f"downloading {name} needs pooch; run: pip install 'vsae_fast[datasets]', or {place}"
        raise ModuleNotFoundError(message, name="pooch") from error
    known = None if remote.md5 is None else f"md5:{remote.md5}"
    try:
        path = pooch.retrieve(remote.url, known, fname=name, path=Path(pooch.os_cache("vsae_fast")) / into)
    except (OSError, ValueError) as error:  # no network; a digest that is not the published one
        reason = str(error).splitlines()[0]
        raise FileNotFoundError(f"{name} could not be downloaded from {remote.url} ({reason}); {place}") from error
    return Path(path)
