"""Rows of Parquet files to train on: a random sample, and a few rows of every level that it lacks."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vsae_fast.parquet_source import ParquetFiles, UnreadableError

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger("vsae_fast")

ROWS_PER_LEVEL = 3  # of a level that the sample lacks
MOST_ADDED = 0.1  # share of the sample that such rows may come to
IDENTIFIER = 0.5  # share of different texts in the sample from which a column names rows rather than levels


def sample_rows(
    files: ParquetFiles,
    n_rows: int,
    rng: np.random.Generator,
    *,
    ignore: Sequence[str] = (),
    skip_unreadable: bool = False,
) -> pa.Table:
    """Rows drawn without replacement from all files, in their order; all of them where there are fewer.

    Behind them come up to three rows of every level that they lack, at most a tenth as many: a level that the model
    does not know could be neither used nor imputed. Memory holds the sample and one row group.

    Parameters
    ----------
    files : ParquetFiles
    n_rows : int
    rng : numpy.random.Generator
    ignore : sequence of str
        Columns to leave out.
    skip_unreadable : bool
        Leave damaged row groups out instead of raising.

    Raises
    ------
    UnreadableError
        A row group is damaged, or with ``skip_unreadable`` every one that rows were drawn from.
    """
    import pyarrow as pa

    total = sum(files.n_rows)
    chosen = np.arange(total) if total <= n_rows else _choose(total, n_rows, rng)
    columns = [name for name in files.schema.names if name not in ignore]
    parts, first = [], 0
    damaged: UnreadableError | None = None
    for file in range(len(files.paths)):
        for group, size in enumerate(files.group_rows(file)):
            own = chosen[np.searchsorted(chosen, first) : np.searchsorted(chosen, first + size)] - first
            first += size
            if not len(own):
                continue
            try:
                parts.append(files.read(file, group, columns).take(own))
            except UnreadableError as error:
                if not skip_unreadable:
                    raise
                damaged = error
    if not parts and damaged is not None:
        raise damaged
    sample = pa.concat_tables(parts)
    if total <= n_rows:
        return sample
    return pa.concat_tables([sample, *_rows_of_other_levels(files, sample, skip_unreadable)])


def _rows_of_other_levels(files: ParquetFiles, sample: pa.Table, skip_unreadable: bool) -> list[pa.Table]:
    """Rows of all files with levels that the sample lacks, from one pass over its columns of text."""
    known = {name: levels for name in sample.column_names if (levels := _levels(sample[name])) is not None}
    taken: dict[str, Counter[Any]] = {name: Counter() for name in known}
    room = int(MOST_ADDED * sample.num_rows)
    added: list[pa.Table] = []
    for file in range(len(files.paths)) if known else ():
        for group in range(files.n_row_groups[file]):
            try:
                found = _rows_of_group(files, file, group, sample, known, taken, room)
            except UnreadableError:
                if not skip_unreadable:
                    raise
                continue
            if found is not None:
                added.append(found)
                room -= found.num_rows
            if room <= 0:
                logger.warning("some rare levels are left out of training: there are too many of them")
                return added
    return added


def _rows_of_group(
    files: ParquetFiles,
    file: int,
    group: int,
    sample: pa.Table,
    known: dict[str, pa.Array],
    taken: dict[str, Counter[Any]],
    room: int,
) -> pa.Table | None:
    texts = files.read(file, group, list(known))
    rows = {
        row for name, levels in known.items() for row in _new_rows(texts[name].combine_chunks(), levels, taken[name])
    }
    return files.read(file, group, sample.column_names).take(sorted(rows)[:room]) if rows else None


def _levels(column: pa.ChunkedArray) -> pa.Array | None:
    """Different texts of a column of levels; None for a column of anything else."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return None
    levels = pc.unique(column.cast(kind)).drop_null()
    return None if len(levels) > IDENTIFIER * max(len(column) - column.null_count, 1) else levels


def _new_rows(column: pa.Array, levels: pa.Array, taken: Counter[Any]) -> list[int]:
    """Rows with a level that is not known and has not been taken often enough."""
    import pyarrow.compute as pc

    column = column.cast(levels.type)
    new = pc.and_(column.is_valid(), pc.invert(pc.is_in(column, value_set=levels)))
    rows = np.flatnonzero(new.to_numpy(zero_copy_only=False))
    found = []
    for row, level in zip(rows.tolist(), column.take(rows).to_pylist(), strict=True):
        if taken[level] < ROWS_PER_LEVEL:
            taken[level] += 1
            found.append(row)
    return found


def _choose(total: int, n: int, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.int64]]:
    """``n`` different numbers below ``total``, sorted, without a list of all numbers where there are many."""
    if total < 4 * n:
        return np.sort(rng.permutation(total)[:n])
    chosen = np.unique(rng.integers(total, size=n))
    while len(chosen) < n:
        chosen = np.unique(np.concatenate([chosen, rng.integers(total, size=n - len(chosen))]))
    return chosen
