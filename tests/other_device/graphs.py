"""CUDA graphs on the stand-in device: a capture runs nothing, a replay what was recorded, on the same tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._pytree import tree_leaves

from tests.other_device import device

GENERATOR = torch.Generator  # the class, which the stand-in replaces


class Graph:
    """Takes the place of :class:`torch.cuda.CUDAGraph`."""

    replays = 0  # of all graphs

    def __init__(self) -> None:
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.generators: list[torch.Generator] = []
        self._before: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # what a captured operation writes to

    def register_generator_state(self, generator: torch.Generator) -> None:
        """Let captured operations draw from it."""
        self.generators.append(generator)

    def replay(self) -> None:
        """Run what was recorded."""
        Graph.replays += 1
        for func, args, kwargs, out in self.operations:
            inputs = {leaf.untyped_storage().data_ptr() for leaf in _tensors((args, kwargs))}
            for held, new in zip(_tensors(out), _tensors(func(*args, **kwargs)), strict=True):
                if held.untyped_storage().data_ptr() not in inputs:  # views see what happens to their base
                    held.copy_(new)

    def before(self, func: Any, args: Any, kwargs: Any) -> None:
        """Keep what an operation is about to overwrite."""
        registered = {generator._cdata for generator in self.generators}
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, GENERATOR) and leaf._cdata not in registered:
                raise RuntimeError("a generator that was not registered with the graph")
        for tensor in _tensors(_overwritten(func, args, kwargs)):
            self._before.setdefault(id(tensor), (tensor, tensor.clone()))

    def after(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Record an operation."""
        self.operations.append((func, args, kwargs, out))

    def waits(self, func: str) -> None:
        """Refuse, as CUDA does."""
        raise RuntimeError(f"operation not permitted when stream is capturing: {func}")

    @contextmanager
    def capture(self) -> Iterator[None]:
        """Record instead of running, as far as anybody can see afterwards."""
        states = [generator.get_state() for generator in self.generators]
        device.watcher = self
        try:
            yield
        finally:
            device.watcher = None
            for tensor, kept in reversed(self._before.values()):
                tensor.copy_(kept)
            for generator, state in zip(self.generators, states, strict=True):
                generator.set_state(state)


def _overwritten(func: Any, args: Any, kwargs: Any) -> Any:
    """Arguments that an operation may write to: as its schema says, all of a kernel of ours."""
    if not hasattr(func, "_schema"):
        return args
    if func is torch.ops.aten.native_batch_norm.default:
        return args[3:5]  # running statistics, which its schema does not own up to
    given = {a.name: v for a, v in zip(func._schema.arguments, args, strict=False)} | dict(kwargs)
    written = [a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    return [given.get(name) for name in written]


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


@contextmanager
def graph_capture() -> Iterator[None]:
    """Within it ``torch.cuda.graph`` captures on the stand-in device."""

    def capture(graph: Graph, **options: Any) -> Any:
        assert options["capture_error_mode"] == "thread_local"
        return graph.capture()

    with ExitStack() as stack:
        stack.enter_context(patch("torch.cuda.CUDAGraph", Graph))
        stack.enter_context(patch("torch.cuda.graph", capture))
        stack.enter_context(patch("torch.cuda.graph_pool_handle", lambda: (0, 1)))
        yield
