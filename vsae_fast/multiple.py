"""Several completions of one table, drawn when they are asked for, and what they say together about each cell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, overload

import numpy as np

from vsae_fast.table.column import BoolArray, FloatArray
from vsae_fast.table.containers import read_table
from vsae_fast.table.stack import stack_tables


def check_n_imputations(value: Any) -> None:
    """Raise ValueError where a number of imputations is none."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"n_imputations must be an integer of at least 1, got {value!r}")


class Interval(NamedTuple):
    """Bounds of a central interval, each of shape (N, columns)."""

    low: FloatArray
    high: FloatArray


class MultipleImputation(Sequence[Any]):
    """Sequence of completed tables of the caller's type; :meth:`VSAEImputer.sample` makes it.

    Table ``i`` is drawn when it is indexed, and is the same every time: nothing but the incomplete table is kept.
    Statistics of dates and durations are in seconds, the former since 1970 in UTC.

    Parameters
    ----------
    draw : callable
        Number of the imputation to completed table.
    missing : numpy.ndarray of bool, shape (N, columns)
    n_imputations : int

    Examples
    --------
    >>> import numpy as np
    >>> from vsae_fast import VSAEImputer
    >>> X = np.array([[1.0, 2.0], [2.0, np.nan], [3.0, 6.0], [4.0, 8.0]])
    >>> draws = VSAEImputer(epochs=1, random_state=0).fit(X).sample(X, n_imputations=3, random_state=0)
    >>> len(draws), draws[0].shape, draws.std()[0].tolist()
    (3, (4, 2), [0.0, 0.0])
    """

    def __init__(self, draw: Callable[[int], Any], missing: BoolArray, n_imputations: int) -> None:
        self._draw, self._missing, self._n = draw, missing, n_imputations

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self._draw(i) for i in range(*index.indices(self._n))]
        position = index + self._n if index < 0 else index
        if not 0 <= position < self._n:
            raise IndexError(f"imputation {index} of {self._n}")
        return self._draw(position)

    def __iter__(self) -> Iterator[Any]:
        return map(self._draw, range(self._n))

    def __repr__(self) -> str:
        n_rows, n_columns = self._missing.shape
        return f"MultipleImputation({self._n} completions of {n_rows} rows x {n_columns} columns)"

    def mean(self) -> FloatArray:
        """Mean of each cell over the imputations, shape (N, columns); NaN in columns of levels and in blocks."""
        return np.asarray(self._numbers().mean(axis=0))

    def std(self) -> FloatArray:
        """Standard deviation of each cell (divisor ``n - 1``), shape (N, columns); 0 where it was observed."""
        if self._n < 2:
            raise ValueError("a standard deviation needs n_imputations of at least 2")
        spread = self._numbers().std(axis=0, ddof=1)
        return np.where(self._missing | np.isnan(spread), spread, 0.0)  # rounding of the mean leaves no exact zero

    def quantile(self, q: float) -> FloatArray:
        """Quantile of each cell, shape (N, columns); NaN in columns of levels.

        At position ``(n + 1) q`` among ``n`` draws (Weibull's), so that the interval between two of them covers as much
        of further draws as it says.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"q must be between 0 and 1, got {q}")
        return np.asarray(np.quantile(self._numbers(), q, axis=0, method="weibull"))

    def interval(self, level: float = 0.9) -> Interval:
        """Central interval of each cell: quantiles at ``(1 - level) / 2`` and ``(1 + level) / 2``."""
        if not 0 < level < 1:
            raise ValueError(f"level must be between 0 and 1, got {level}")
        numbers = self._numbers()
        low, high = np.quantile(numbers, [(1 - level) / 2, (1 + level) / 2], axis=0, method="weibull")
        return Interval(low, high)

    def to_long(self) -> Any:
        """All completions below each other in one data frame, with a column ``imputation`` (0, 1, ...) in front.

        Raises
        ------
        TypeError
            The table is not a data frame.
        """
        return stack_tables(list(self))

    def _numbers(self) -> FloatArray:
        """Cells as numbers, shape (n_imputations, N, columns)."""
        stacked = np.full((self._n, *self._missing.shape), np.nan)
        for i, completed in enumerate(self):
            for j, column in enumerate(read_table(completed).columns()):
                if column.values.dtype != object and not column.block:
                    stacked[i, :, j] = column.values
        return stacked
