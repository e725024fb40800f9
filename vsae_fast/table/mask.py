"""The caller's mask: 1 = observed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import numpy.typing as npt

from vsae_fast.table.column import BoolArray, Column, FloatArray
from vsae_fast.table.protocols import Table

CHECKED_ROWS = 65_536


def observed_cells(table: Table, mask: Any | None) -> BoolArray:
    """Which cells are observed, shape (N, columns): the mask where it is given, and never a missing value.

    Reads a chunk of rows at a time.

    Raises
    ------
    ValueError
        A mask of the wrong shape, of anything but 0 and 1, or one that marks missing values as observed; infinite
        observed values.
    """
    observed = np.empty(table.shape, dtype=bool) if mask is None else read_mask(table, mask)
    contradicted = 0
    infinite: dict[str, None] = {}
    for start in range(0, table.shape[0], CHECKED_ROWS):
        columns = table.rows(start, start + CHECKED_ROWS).columns()
        present = ~np.stack([column.missing for column in columns], axis=1)
        part = observed[start : start + CHECKED_ROWS]
        if mask is None:
            part[:] = present
        else:
            contradicted += int((part & ~present).sum())
        infinite |= dict.fromkeys(infinite_columns(columns, part & present))
    if contradicted:
        raise ValueError(
            f"mask marks {contradicted} missing cell(s) of X as observed; 1 means observed, so the mask may be "
            "inverted (pass 1 - mask)"
        )
    if infinite:
        raise ValueError(f"X contains infinity in column(s) {', '.join(infinite)}; replace it by a number or by NaN")
    return observed


def infinite_columns(columns: list[Column], observed: BoolArray) -> list[str]:
    """Names of the columns whose observed cells hold an infinity."""
    return [
        str(column.name)
        for j, column in enumerate(columns)
        if column.values.dtype != object and np.isinf(column.values[observed[:, j]]).any()
    ]


def _stack(table: Table, mask: Mapping[Any, Any]) -> npt.NDArray[Any]:
    """Masks of attributes by name as one array, shape (N, columns)."""
    odd = [name for name in mask if name not in table.names]
    lacking = [name for name in table.names if name not in mask]
    if odd or lacking:
        what = f"has {odd[:5]}, which X does not have" if odd else f"lacks {lacking[:5]}"
        raise ValueError(f"mask {what}; pass one entry per attribute of X: {table.names[:10]}")
    for name in table.names:
        shape = np.shape(mask[name])
        if shape != (table.shape[0],):
            raise ValueError(
                f"mask of attribute {name!r} has shape {shape}; pass one entry per row, shape ({table.shape[0]},): a "
                "block is observed whole or not at all"
            )
    return np.stack([np.asarray(mask[name]) for name in table.names], axis=1)


def read_mask(table: Table, mask: Any) -> BoolArray:
    """Mask as booleans, shape (N, columns), checked against the table but not against its missing values."""
    torch = sys.modules.get("torch")
    if isinstance(mask, Mapping):
        mask = _stack(table, mask)
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
