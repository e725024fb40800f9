"""The caller's mask: 1 = observed."""

from __future__ import annotations

import sys
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import numpy.typing as npt

from vsae_fast.table.column import BoolArray, Column, FloatArray
from vsae_fast.table.containers import Table


def observed_cells(table: Table, columns: list[Column], mask: Any | None) -> BoolArray:
    """Which cells are observed, shape (N, columns): the mask where it is given, and never a missing value.

    Raises
    ------
    ValueError
        A mask of the wrong shape, of anything but 0 and 1, or one that marks missing values as observed.
    """
    present = ~np.stack([column.missing for column in columns], axis=1)
    if mask is None:
        return present
    observed = read_mask(table, mask)
    contradicted = int((observed & ~present).sum())
    if contradicted:
        raise ValueError(
            f"mask marks {contradicted} missing cell(s) of X as observed; 1 means observed, so the mask may be "
            "inverted (pass 1 - mask)"
        )
    return observed


def read_mask(table: Table, mask: Any) -> BoolArray:
    """Mask as booleans, shape (N, columns), checked against the table but not against its missing values."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(mask, torch.Tensor):
        mask = mask.detach().cpu().numpy()
    elif nw.dependencies.is_into_dataframe(mask):
        frame = nw.from_native(mask, eager_only=True)
        if len(frame.columns) == table.shape[1] and list(frame.columns) != table.names:
            if set(frame.columns) == set(table.names):
                raise ValueError("mask has the columns of X in another order; reorder it with mask[X.columns]")
            if not all(isinstance(name, int) for name in frame.columns):
                odd = [name for name in frame.columns if name not in table.names]
                raise ValueError(f"mask has columns that X does not have: {odd[:5]}")
        mask = frame.to_numpy()
    array: npt.NDArray[Any] = np.asarray(mask)
    if array.shape != table.shape:
        raise ValueError(f"mask has shape {array.shape}, but X has shape {table.shape}; pass one entry per cell")
    if array.dtype.kind == "b":
        return array.astype(np.bool_)
    try:
        numeric: FloatArray = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"mask must hold booleans or 0 and 1, got {array.dtype} entries") from error
    wrong = ~np.isin(numeric, (0.0, 1.0))
    if wrong.any():
        raise ValueError(
            f"mask must hold booleans or 0 and 1; {int(wrong.sum())} entries are neither, such as {numeric[wrong][0]}"
        )
    return np.equal(numeric, 1.0)
