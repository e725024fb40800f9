"""Completing a table that has been checked, a chunk of rows at a time: memory beside the result stays small."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from vsae_fast.ensemble_imputation import EnsembleImputer
from vsae_fast.imputation import CHUNK_ROWS
from vsae_fast.table.column import BoolArray, Column
from vsae_fast.table.decode import decode
from vsae_fast.table.encode import encode
from vsae_fast.table.protocols import Table
from vsae_fast.table.schema import Schema

Values = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]  # of encoded rows, masks and the first row's number


class Chunk:
    """Some rows of a table, encoded.

    Attributes
    ----------
    start : int
        Number of the first row.
    columns : list of Column
    missing : numpy.ndarray of bool, shape (rows, columns)
    x : torch.Tensor of float32, shape (rows, D)
    mask : torch.Tensor of float32, shape (rows, M)
        1 = observed.
    unseen : dict of str to int
        By column, how many cells held a level that was not there at fit.
    """

    def __init__(self, schema: Schema, start: int, columns: list[Column], observed: BoolArray) -> None:
        self.start, self.columns, self.missing = start, columns, ~observed
        self.unseen: dict[str, int] = {}
        if schema.modelled:
            x, mask, self.unseen = encode(schema, columns, observed)
            self.x, self.mask = torch.from_numpy(x), torch.from_numpy(mask)


def chunks(schema: Schema, table: Table, observed: BoolArray, n_rows: int | None = None) -> Iterator[Chunk]:
    """Encode a table chunk after chunk, each of ``n_rows`` rows."""
    n_rows = CHUNK_ROWS if n_rows is None else n_rows
    for start in range(0, table.shape[0], n_rows):
        stop = start + n_rows
        yield Chunk(schema, start, table.rows(start, stop).columns(), observed[start:stop])


def fill(
    schema: Schema, table: Table, observed: BoolArray, values: Values | None, n_rows: int | None = None
) -> tuple[Any, Counter[str]]:
    """Fill the holes of a table.

    Parameters
    ----------
    schema : Schema
    table : Table
    observed : numpy.ndarray of bool, shape (N, columns)
    values : callable or None
        Gives standardised values and probabilities (N, D); None where no column is modelled.
    n_rows : int, optional
        How many at once; see :func:`vsae_fast.imputation.chunk_rows`.

    Returns
    -------
    table of the caller's type
        Complete.
    unseen : Counter of str
        By column, how many cells held a level that was not there at fit.
    """
    unseen: Counter[str] = Counter()
    writer = table.writer()
    for chunk in chunks(schema, table, observed, n_rows):
        filled = np.empty((len(chunk.missing), 0), dtype=np.float32)
        if values is not None:
            unseen.update(chunk.unseen)
            filled = values(chunk.x, chunk.mask, chunk.start).numpy()
        writer.write(chunk.start, chunk.missing, decode(schema, chunk.columns, chunk.missing, filled))
    return writer.result(), unseen


def expected_values(imputer: EnsembleImputer) -> Values:
    """Expected values of the rows that have a hole; the others come back as they are."""

    def values(x: torch.Tensor, mask: torch.Tensor, start: int) -> torch.Tensor:
        del start
        # In numpy, which leaves torch's pool asleep: its threads would go on spinning beside the kernels' own.
        filled, observed = x.numpy(), mask.numpy()
        rows = np.flatnonzero((observed == 0).any(axis=1))
        result = imputer.run(torch.from_numpy(filled[rows]), torch.from_numpy(observed[rows]))
        filled[rows] = result.imputed.numpy()
        return x

    return values
