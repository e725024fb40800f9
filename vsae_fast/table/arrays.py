"""NumPy arrays and torch tensors as tables."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vsae_fast.table.column import BoolArray, Column, from_objects, time_column


class ArrayTable:
    """A two-dimensional NumPy array of numbers, times or objects."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.array = array
        self.shape = (array.shape[0], array.shape[1])
        self.names: list[Hashable] = [f"x{j}" for j in range(array.shape[1])]

    def columns(self) -> list[Column]:
        if self.array.dtype.kind in "OUS":
            return [from_objects(name, self.array[:, j].astype(object)) for j, name in enumerate(self.names)]
        if self.array.dtype.kind in "mM":
            return [time_column(name, self.array[:, j]) for j, name in enumerate(self.names)]
        return [_numeric_column(name, self.array[:, j]) for j, name in enumerate(self.names)]

    def rows(self, start: int, stop: int) -> ArrayTable:
        return ArrayTable(self.array[start:stop])

    def writer(self) -> ArrayWriter:
        return ArrayWriter(self.array)

    def with_missing(self, hidden: BoolArray) -> npt.NDArray[Any]:
        if self.array.dtype.kind in "OUS":
            result = self.array.astype(object)
            result[hidden] = None
            return result
        of_times = self.array.dtype.kind in "mM"
        result = self.array.astype(self.array.dtype if of_times else np.result_type(self.array.dtype, np.float16))
        result[hidden] = "NaT" if of_times else np.nan  # integers have none, floats do
        return result


class ArrayWriter:
    """Writes into a copy of an array."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        # A fixed-width text array would cut a longer level short.
        self._result: npt.NDArray[Any] = array.astype(object) if array.dtype.kind in "US" else array.copy()
        self._text = array.dtype if array.dtype.kind in "US" else None

    def write(self, start: int, missing: BoolArray, fills: Sequence[npt.NDArray[Any]]) -> None:
        part = self._result[start : start + len(missing)]
        for j, values in enumerate(fills):
            part[missing[:, j], j] = values
        if missing.any():
            self._text = None

    def result(self) -> npt.NDArray[Any]:
        return self._result if self._text is None else self._result.astype(self._text)


class TensorTable:
    """A two-dimensional torch tensor; the result is on the same device."""

    def __init__(self, tensor: Any) -> None:
        if tensor.is_complex():
            raise ValueError("Complex data not supported: pass real and imaginary parts as separate columns")
        if tensor.ndim != 2:
            raise ValueError(f"Expected 2D tensor, got {tensor.ndim}D tensor instead; reshape it to (rows, columns)")
        self.tensor = tensor
        host = tensor.detach().cpu()
        # NumPy has no bfloat16; float32 holds every half-precision value exactly.
        self._array = host.float().numpy() if host.is_floating_point() and host.itemsize < 4 else host.numpy()
        self.shape = (tensor.shape[0], tensor.shape[1])
        self.names: list[Hashable] = [f"x{j}" for j in range(tensor.shape[1])]

    def columns(self) -> list[Column]:
        return [_numeric_column(name, self._array[:, j]) for j, name in enumerate(self.names)]

    def rows(self, start: int, stop: int) -> TensorTable:
        return TensorTable(self.tensor[start:stop])

    def writer(self) -> TensorWriter:
        return TensorWriter(self.tensor)

    def with_missing(self, hidden: BoolArray) -> Any:
        import torch

        floating = self.tensor.detach() if self.tensor.is_floating_point() else self.tensor.detach().double()
        return floating.masked_fill(torch.from_numpy(hidden).to(floating.device), torch.nan)


class TensorWriter:
    """Writes into a copy of a tensor, on its device."""

    def __init__(self, tensor: Any) -> None:
        self._result = tensor.detach().clone()

    def write(self, start: int, missing: BoolArray, fills: Sequence[npt.NDArray[Any]]) -> None:
        import torch

        for j, values in enumerate(fills):
            rows = torch.from_numpy(start + np.flatnonzero(missing[:, j])).to(self._result.device)
            self._result[rows, j] = torch.from_numpy(values).to(self._result)

    def result(self) -> Any:
        return self._result


def _numeric_column(name: Hashable, values: npt.NDArray[Any]) -> Column:
    kind = values.dtype.kind
    if kind == "b":
        return Column(name, "boolean", values.astype(np.float64), np.zeros(len(values), dtype=bool))
    if kind in "iu":
        info = np.iinfo(values.dtype)
        missing = np.zeros(len(values), dtype=bool)
        return Column(name, "integer", values.astype(np.float64), missing, (int(info.min), int(info.max)))
    as_double = values.astype(np.float64)
    return Column(name, "float", as_double, np.isnan(as_double))
