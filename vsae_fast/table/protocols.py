"""What every container of a table can do, whatever its type."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Protocol

import numpy.typing as npt

from vsae_fast.table.column import BoolArray, Column


class Writer(Protocol):
    """A copy of a table that is completed chunk after chunk of rows."""

    def write(self, start: int, missing: BoolArray, fills: Sequence[npt.NDArray[Any]]) -> None:
        """Write ``fills[j]`` into the missing cells of column j.

        Parameters
        ----------
        start : int
            First row of the chunk.
        missing : numpy.ndarray of bool, shape (rows of the chunk, columns)
        fills : sequence of numpy.ndarray
            A value per missing cell of each column, in the order of rows.
        """

    def result(self) -> Any:
        """Return the completed table."""


class Table(Protocol):
    """A container that can be read column by column and copied with some cells replaced."""

    names: list[Hashable]
    shape: tuple[int, int]

    def columns(self) -> list[Column]:
        """Read every column."""

    def rows(self, start: int, stop: int) -> Table:
        """View of some rows."""

    def writer(self) -> Writer:
        """Copy that takes values for missing cells; the input is not touched."""

    def with_missing(self, hidden: BoolArray) -> Any:
        """Copy with the cells of ``hidden`` (N, columns) missing; the input is not touched."""
