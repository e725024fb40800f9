"""Finished row groups as files of their own, and how one process makes them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vsae_fast.estimator import VSAEImputer
from vsae_fast.impute_table import complete
from vsae_fast.parquet_source import ParquetFiles, UnreadableError
from vsae_fast.whole_file import whole_file

if TYPE_CHECKING:
    import pyarrow as pa


class Todo(NamedTuple):
    """A row group that is not done yet, and the name of its part."""

    file: int
    group: int
    name: str


class Part(NamedTuple):
    """A row group that has been dealt with.

    Attributes
    ----------
    name : str
    sha256 : str
        Of the file; empty where the row group could not be read.
    filled : dict of str to int
        Cells filled in each column that had holes.
    reason : str
        Why it could not be read.
    """

    name: str
    sha256: str
    filled: dict[str, int]
    reason: str = ""


def part_name(file: int, group: int) -> str:
    """Name of a part in the work folder."""
    return f"{file:06}-{group:06}.parquet"


def write_part(path: Path, table: pa.Table, compression: dict[str, str]) -> str:
    """Write a row group, whole or not at all, and return its checksum."""
    import pyarrow.parquet as pq

    with whole_file(path) as temporary:
        pq.write_table(table, temporary, compression=compression, row_group_size=max(table.num_rows, 1))
    return digest(path)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    made = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            made.update(block)
    return made.hexdigest()


def local_parts(
    files: ParquetFiles, imputer: VSAEImputer, ignore: Sequence[str], work: Path, todo: Sequence[Todo]
) -> Iterator[Part]:
    """Row groups in their order: one thread reads ahead and another writes behind while this one computes.

    Parameters
    ----------
    files : ParquetFiles
    imputer : VSAEImputer
    ignore : sequence of str
        Columns to leave as they are.
    work : Path
        Folder for the parts.
    todo : sequence of Todo
    """

    def write(table: pa.Table, item: Todo, filled: dict[str, int]) -> Part:
        return Part(item.name, write_part(work / item.name, table, files.compression(item.file)), filled)

    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        ahead: Future[pa.Table] | None = reader.submit(files.read, *todo[0][:2]) if todo else None
        behind: Future[Part] | None = None
        try:
            for i, item in enumerate(todo):
                assert ahead is not None
                current = ahead
                ahead = reader.submit(files.read, *todo[i + 1][:2]) if i + 1 < len(todo) else None
                try:
                    table = current.result()
                except UnreadableError as error:
                    completed = None
                    reason = str(error)
                else:
                    completed, filled = complete(imputer, table, ignore)
                if behind is not None:
                    yield behind.result()
                    behind = None
                if completed is None:
                    yield Part(item.name, "", {}, reason)
                else:
                    behind = writer.submit(write, completed, item, filled)
            if behind is not None:
                yield behind.result()
        finally:
            if ahead is not None:
                ahead.cancel()
