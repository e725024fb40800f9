"""Leaving columns out of a completed table."""

from __future__ import annotations

import sys
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np


def drop_columns(result: Any, positions: list[int]) -> Any:
    """Table of the same type without the columns at ``positions``."""
    if not positions:
        return result
    if isinstance(result, dict):
        return {name: values for j, (name, values) in enumerate(result.items()) if j not in positions}
    torch = sys.modules.get("torch")
    n_columns = result.shape[1]
    kept = [j for j in range(n_columns) if j not in positions]
    if isinstance(result, np.ndarray) or (torch is not None and isinstance(result, torch.Tensor)):
        return result[:, kept]
    frame = nw.from_native(result, eager_only=True)
    return frame.select([frame.columns[j] for j in kept]).to_native()
