"""Data frames below each other."""

from __future__ import annotations

from typing import Any

import narwhals as nw


def stack_tables(tables: list[Any]) -> Any:
    """Frames of one library below each other, numbered in a first column ``imputation``.

    Raises
    ------
    TypeError
        Not data frames.
    ValueError
        There is a column of that name already.
    """
    try:
        frames = [nw.from_native(table, eager_only=True) for table in tables]
    except TypeError as error:
        kind = type(tables[0]).__name__
        raise TypeError(f"to_long stacks data frames, got {kind}; use numpy.stack(list(draws)) for arrays") from error
    if "imputation" in frames[0].columns:
        raise ValueError("the table has a column 'imputation' already; rename it")
    numbered = [frame.select(nw.lit(i, dtype=nw.Int64).alias("imputation"), nw.all()) for i, frame in enumerate(frames)]
    return nw.concat(numbered).to_native()
