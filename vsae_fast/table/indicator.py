"""Missing-value indicator columns behind a completed table."""

from __future__ import annotations

import sys
from collections.abc import Hashable
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np

from vsae_fast.table.column import BoolArray


def append_indicator(result: Any, names: list[Hashable], missing: BoolArray) -> Any:
    """Append one column per name: booleans in frames and dicts, ones and zeros in arrays and tensors of their dtype."""
    if not names:
        return result
    if isinstance(result, dict):
        return result | {name: missing[:, j] for j, name in enumerate(names)}
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(result, torch.Tensor):
        return torch.cat([result, torch.from_numpy(missing).to(result)], dim=1)
    if isinstance(result, np.ndarray):
        return np.hstack([result, missing.astype(result.dtype)])
    frame = nw.from_native(result, eager_only=True)
    columns = [
        nw.new_series(str(name), missing[:, j].tolist(), nw.Boolean(), backend=frame.implementation)
        for j, name in enumerate(names)
    ]
    if frame.implementation.is_pandas_like():
        return result.assign(**{str(name): missing[:, j] for j, name in enumerate(names)})
    return frame.with_columns(*columns).to_native()
