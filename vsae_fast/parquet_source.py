"""Parquet files as one source: found, compared, read row group by row group, sampled."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsae_fast.source_files import SourceFiles, find_paths
from vsae_fast.table.times import number_of

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet


SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}  # of Arrow's units


class UnreadableError(ValueError):
    """A file or row group is damaged."""


@dataclass(frozen=True)
class ParquetFiles(SourceFiles):
    """Files of one schema.

    Parameters
    ----------
    paths, root, single
        See :class:`~vsae_fast.source_files.SourceFiles`.
    unreadable : tuple of str
        What is wrong with each file that was left out.
    """

    unreadable: tuple[str, ...] = ()

    @cached_property
    def _metadata(self) -> list[Any]:
        import pyarrow.parquet as pq

        return [pq.read_metadata(path) for path in self.paths]

    @property
    def n_row_groups(self) -> list[int]:
        """Of each file."""
        return [metadata.num_row_groups for metadata in self._metadata]

    @property
    def n_rows(self) -> list[int]:
        """Of each file."""
        return [metadata.num_rows for metadata in self._metadata]

    @cached_property
    def schema(self) -> pa.Schema:
        """Of all files."""
        import pyarrow.parquet as pq

        return pq.read_schema(self.paths[0])

    def is_time_of_day(self, name: str) -> bool:
        """Whether a column holds times without a date."""
        import pyarrow as pa

        return bool(pa.types.is_time(self.schema.field(name).type))

    def group_rows(self, file: int) -> list[int]:
        """Rows of each row group of a file."""
        metadata = self._metadata[file]
        return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Least and largest value of columns of numbers and times, where all row groups' statistics have them.

        Times in seconds, as they are modelled.
        """
        import pyarrow as pa

        durations = {field.name: field.type.unit for field in self.schema if pa.types.is_duration(field.type)}
        found: dict[str, tuple[float, float]] = {}
        unknown: set[str] = set()
        for metadata in self._metadata:
            groups = (metadata.row_group(group) for group in range(metadata.num_row_groups))
            for column in (group.column(i) for group in groups for i in range(group.num_columns)):
                name, statistics = column.path_in_schema, column.statistics
                if statistics is not None and statistics.null_count == column.num_values:
                    continue  # nothing but holes
                ends = _ends(statistics)
                if ends is None:
                    unknown.add(name)
                    continue
                low, high = found.get(name, ends)
                found[name] = min(low, ends[0]), max(high, ends[1])
        for name in durations.keys() & found.keys():  # Parquet knows them as integers
            low, high = found[name]
            found[name] = low * SECONDS[durations[name]], high * SECONDS[durations[name]]
        return {name: limits for name, limits in found.items() if name not in unknown}

    def compression(self, file: int) -> dict[str, str]:
        """Codec of each column of a file."""
        metadata = self._metadata[file]
        if metadata.num_row_groups == 0:
            return {}
        columns = [metadata.row_group(0).column(i) for i in range(metadata.num_columns)]
        return {column.path_in_schema: column.compression.lower().replace("uncompressed", "none") for column in columns}

    def read(self, file: int, group: int, columns: Sequence[str] | None = None) -> pa.Table:
        """One row group, or some of its columns.

        Raises
        ------
        UnreadableError
            It is damaged; the message names file and row group.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.paths[file]
        try:
            with pq.ParquetFile(path) as opened:
                return opened.read_row_group(group, columns=None if columns is None else list(columns))
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise UnreadableError(f"row group {group} of {path} cannot be read: {reason}") from error

    def absolute(self) -> ParquetFiles:
        """The same files by names that do not depend on a process's folder."""
        return replace(self, paths=tuple(path.resolve() for path in self.paths))


def _ends(statistics: Any) -> tuple[float, float] | None:
    """Least and largest number, or second, of one column of a row group, where they are told."""
    if statistics is None or not statistics.has_min_max:
        return None
    try:
        ends = statistics.min, statistics.max
    except ValueError:  # nanoseconds, where pandas is not there
        return None
    if all(isinstance(end, datetime.date) for end in ends):
        return number_of("datetime", ends[0]), number_of("datetime", ends[1])
    if any(isinstance(end, bool) or not isinstance(end, Real) or not math.isfinite(end) for end in ends):
        return None
    return float(ends[0]), float(ends[1])


def find_files(source: Path, *, skip_unreadable: bool = False) -> ParquetFiles:
    """Files that a path means: itself, all ``.parquet`` files below a folder, or those that a pattern matches.

    Parameters
    ----------
    source : Path
    skip_unreadable : bool
        Leave files out that are no Parquet, or damaged, instead of raising.

    Raises
    ------
    FileNotFoundError
        There are none.
    ValueError
        A file that is no Parquet, one without rows or row groups, or files that differ in their columns.
    """
    found = find_paths(source)
    kept = [path for path in found.paths if found.root is None or path.suffix == ".parquet"]
    files = ParquetFiles(tuple(kept), found.root, found.single)
    if not files.paths:
        raise FileNotFoundError(f"there is no Parquet file at {source}")
    names = [path.name for path in files.paths]
    if files.root is None and len(set(names)) < len(names):
        raise ValueError(f"{source} matches files of one name in several folders; pass the folder above them")
    files = _readable(files, skip_unreadable)
    _check_schemas(files)
    return files


def _readable(files: ParquetFiles, skip: bool) -> ParquetFiles:
    """Files without those that are damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kept, unreadable = [], []
    for path in files.paths:
        try:
            pq.read_schema(path)
            kept.append(path)
        except (pa.ArrowException, OSError) as error:
            unreadable.append(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}")
            if not skip:
                raise UnreadableError(unreadable[0]) from error
    if not kept:
        raise UnreadableError(unreadable[0])
    return replace(files, paths=tuple(kept), unreadable=tuple(unreadable))


def _check_schemas(files: ParquetFiles) -> None:
    import pyarrow.parquet as pq

    first = None
    for path in files.paths:
        schema = pq.read_schema(path)
        if first is None:
            first = schema
        for name in {*first.names, *schema.names}:
            if name not in schema.names or name not in first.names:
                raise ValueError(
                    f"{path} and {files.paths[0]} differ in column {name!r}; give all files the same columns"
                )
            if schema.field(name).type != first.field(name).type:
                kinds = f"{schema.field(name).type} and {first.field(name).type}"
                raise ValueError(f"{path} and {files.paths[0]} differ in the type of column {name!r}: {kinds}")
    if sum(files.n_rows) == 0:
        raise ValueError(f"{files.paths[0]} has no rows")
