"""A second device without a GPU: tensors that say they are on ``other:0``, and compute on the CPU.

What a GPU refuses is refused: operands on different devices, a tensor of the device handed to NumPy. Operations that a
GPU would be waited for are counted. It shows that code puts its tensors where they belong, and nothing about kernels
or speed. Built on torch's registration of backends in Python; one process has the device for good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from unittest.mock import patch

import torch
import torch._dynamo  # which generators import where a mode is on, and whose types need the class that is patched below
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("other")
DEVICE = torch.device("other", 0)
aten = torch.ops.aten
# Operands that a GPU's operation takes from the CPU too.
CROSS = (aten.copy_.default, aten.index.Tensor, aten.index_put_.default, aten.index_put.default)
waits: list[str] = []  # operations whose result the host waits for
watcher: Watcher | None = None  # of every operation on the device
kernels: dict[Any, Callable[..., Any]] = {}  # of ops that are no torch's, by op; they take tensors of the device


class Watcher(Protocol):
    """Sees what runs on the device, in tensors on the CPU."""

    def before(self, func: Any, args: Any, kwargs: Any) -> None:
        """An operation begins."""

    def after(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """It has ended."""

    def waits(self, func: str) -> None:
        """The host waits for an operation."""


class OtherTensor(torch.Tensor):
    """Holds a tensor on the CPU and says that it is on the device."""

    raw: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, raw: torch.Tensor) -> OtherTensor:
        made: OtherTensor = torch.Tensor._make_wrapper_subclass(
            cls, raw.size(), strides=raw.stride(), storage_offset=raw.storage_offset(), dtype=raw.dtype, device=DEVICE
        )
        made.raw = raw
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Factories(TorchDispatchMode):
    """Sees the functions that make tensors from nothing."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    if func in kernels:
        with _Factories():
            return kernels[func](*args, **kwargs)
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    here = [tensor for tensor in tensors if isinstance(tensor, OtherTensor)]
    if here and len(here) < len(tensors) and func not in CROSS:
        strangers = [tensor for tensor in tensors if not isinstance(tensor, OtherTensor) and tensor.dim() > 0]
        if strangers:
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, found {DEVICE} and cpu")
    to = kwargs.get("device")
    on_device = bool(here) if to is None else torch.device(to).type == DEVICE.type
    if to is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    strange = any(tensor.dim() > 0 for tensor in tensors if not isinstance(tensor, OtherTensor))
    if func is aten.copy_.default:
        waited = bool(here) and len(here) < len(tensors)
    elif on_device:
        waited = strange or (bool(here) and func in (aten._local_scalar_dense.default, aten.nonzero.default))
    else:
        waited = bool(here)
    if waited:
        waits.append(str(func))
        if watcher is not None:
            watcher.waits(str(func))
    given = tree_map(_raw, args), tree_map(_raw, kwargs)
    watched = watcher if here or on_device else None
    if watched is not None:
        watched.before(func, *given)
    out = func(*given[0], **given[1])
    if watched is not None:
        watched.after(func, *given, out)
    if func is aten.copy_.default:
        return args[0]
    wrapped = {id(tensor.raw): tensor for tensor in here}

    def place(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if not on_device:
            return value.clone() if here else value  # `to` of the same device may hand back the raw tensor itself
        return wrapped[id(value)] if id(value) in wrapped else OtherTensor(value)

    return tree_map(place, out)


class OtherGenerator(torch.Generator):
    """A generator that says it is on the device."""

    device = DEVICE  # type: ignore[assignment]

    def manual_seed(self, seed: int) -> OtherGenerator:
        """Seed it."""
        super().manual_seed(seed)
        return self


def launch_with(launch: Callable[..., None]) -> Callable[..., None]:
    """Launch function for tensors of the device, from one for tensors on the CPU."""

    def run(kernel: str, grid: tuple[int, int], arguments: list[Any]) -> None:
        for argument in arguments:
            if isinstance(argument, torch.Tensor) and not isinstance(argument, OtherTensor):
                raise RuntimeError(f"{kernel}: a tensor on the CPU")
        given = (kernel, grid, [_raw(argument) for argument in arguments])
        if watcher is not None:
            watcher.before(launch, given, {})
        launch(*given)
        if watcher is not None:
            watcher.after(launch, given, {}, None)

    return run


def _raw(value: Any) -> Any:
    return value.raw if isinstance(value, OtherTensor) else value


@contextmanager
def other_device() -> Iterator[torch.device]:
    """Within it the device exists."""

    def generator(device: torch.device | str = "cpu") -> torch.Generator:
        return OtherGenerator() if torch.device(device).type == DEVICE.type else plain(device)

    def tensor(data: Any, *, device: torch.device | str | None = None, **options: Any) -> torch.Tensor:
        made = plain_tensor(data, **options)  # torch's own moves it past all modes
        return made if device is None else made.to(device)

    plain, plain_tensor = torch.Generator, torch.tensor
    with _Factories(), patch("torch.Generator", generator), patch("torch.tensor", tensor):
        yield DEVICE
