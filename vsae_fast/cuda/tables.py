"""How attributes lie in the columns, as the kernels read it."""

from __future__ import annotations

from functools import lru_cache

import torch

from vsae_fast.ops.layout import AttributeLayout, Kind


@lru_cache(maxsize=256)
def int_table(values: tuple[int, ...], length: int, device: torch.device) -> torch.Tensor:
    """Numbers on a device with zeros behind them, int32, shape (length,); kept, as a copy there is waited for."""
    return torch.tensor([*values, *([0] * (length - len(values)))], dtype=torch.int32, device=device)


@lru_cache(maxsize=64)
def columns_of_kind(layout: AttributeLayout, kind: Kind, device: torch.device) -> torch.Tensor:
    """Columns of the attributes of one kind, int64; kept, as an index from Python is copied to the device each time."""
    spans = zip(layout.kinds, layout.starts, layout.starts[1:], strict=False)
    columns = [column for own, begin, end in spans if own == kind for column in range(begin, end)]
    return torch.tensor(columns, dtype=torch.int64, device=device)


@lru_cache(maxsize=64)
def layout_tables(
    widths: tuple[int, ...], kinds: tuple[int, ...], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Attribute of each column (D,), first column of each attribute and D (M + 1,), kind codes (M,); int32.

    Kept for the next call: a copy to the device takes longer than many a kernel.
    """
    attribute = [a for a, width in enumerate(widths) for _ in range(width)]
    start = [0]
    for width in widths:
        start.append(start[-1] + width)
    tables = (torch.tensor(values, dtype=torch.int32, device=device) for values in (attribute, start, kinds))
    first, second, third = tables
    return first, second, third
