"""Which container a caller's table is in."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import numpy.typing as npt

from vsae_fast.table.arrays import ArrayTable, TensorTable
from vsae_fast.table.frames import FrameTable
from vsae_fast.table.protocols import Table


def read_table(X: Any) -> Table:
    """Wrap a NumPy array, torch tensor, pandas, polars or Arrow table, nested sequence, or dict of attributes.

    Raises
    ------
    TypeError
        A sparse matrix or an unknown type.
    ValueError
        Not two-dimensional, ragged, complex, without rows or without columns.
    """
    if hasattr(X, "toarray") and hasattr(X, "nnz"):
        raise TypeError("Sparse data was passed for X, but dense data is required; use X.toarray()")
    if hasattr(X, "collect") and hasattr(X, "lazy"):
        raise TypeError(f"X is a {type(X).__name__}, which has no cells yet; pass X.collect()")
    torch = sys.modules.get("torch")
    table: Table
    if isinstance(X, Mapping):
        from vsae_fast.table.blocks import AttributesTable  # which reads its attributes with this function

        table = AttributesTable(X)
    elif torch is not None and isinstance(X, torch.Tensor):
        table = TensorTable(X)
    elif nw.dependencies.is_into_dataframe(X):
        table = FrameTable(X)
    else:
        table = ArrayTable(_as_array(X))
    n_rows, n_columns = table.shape
    if n_columns == 0:
        raise ValueError(f"X has 0 feature(s) (shape=({n_rows}, 0)) while a minimum of 1 is required.")
    if n_rows == 0:
        raise ValueError(f"X has 0 sample(s) (shape=(0, {n_columns})) while a minimum of 1 is required.")
    return table


def _as_array(X: Any) -> npt.NDArray[Any]:
    if isinstance(X, (str, bytes)) or np.isscalar(X):
        raise ValueError(f"Expected 2D array, got a {type(X).__name__} instead; pass a table")
    try:
        array = np.asarray(X)
        if array.dtype.kind in "US" and not isinstance(X, np.ndarray):
            array = np.asarray(X, dtype=object)  # [["a", 1.5]] must not turn its numbers into text
    except ValueError as error:
        raise ValueError("X is ragged: its rows differ in length; give every row the same number of cells") from error
    if array.dtype.kind == "c":
        raise ValueError("Complex data not supported: pass real and imaginary parts as separate columns")
    if array.ndim != 2:
        if array.dtype == object and array.ndim == 1 and any(isinstance(row, (list, tuple)) for row in array):
            raise ValueError("X is ragged: its rows differ in length; give every row the same number of cells")
        raise ValueError(
            f"Expected 2D array, got {array.ndim}D array instead. Reshape your data using X.reshape(-1, 1) for one "
            "column or X.reshape(1, -1) for one row."
        )
    if array.dtype.kind not in "fiubOUSmM":
        raise ValueError(f"X has dtype {array.dtype}, which cannot be imputed; convert it to numbers or objects")
    return array
