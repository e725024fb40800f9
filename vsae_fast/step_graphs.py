"""Training steps as CUDA graphs: one launch a step in place of hundreds."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

logger = logging.getLogger("vsae_fast")

PLAIN_STEPS = 2  # before a capture: kernels are compiled, tables copied, libraries set up
AGREEMENT = 0.05  # of a graph's first update with the plain one, as a share of what that changes

Tensors = dict[str, torch.Tensor]


class _Captured(NamedTuple):
    """A step, where it reads its rows and where it leaves its loss."""

    graph: torch.cuda.CUDAGraph
    rows: torch.Tensor
    loss: torch.Tensor

    def step(self, rows: torch.Tensor) -> torch.Tensor:
        self.rows.copy_(rows)
        self.graph.replay()
        return self.loss.clone()  # the next step overwrites it


class StepGraphs:
    """Runs an update from a CUDA graph of its own for each number of rows and phase of the objective.

    A graph repeats what it has recorded, so that a number which the update takes from Python would stay what it was.
    Hence the first step of every graph is held to the plain update from the same state and noise. Where they differ, or
    the capture fails, a warning says so and plain updates go on from there.

    Parameters
    ----------
    update : callable
        Takes the batch's row numbers and the epoch, updates the parameters, returns the loss; waits for nothing.
    state : callable
        All tensors that an update changes, by name; parameters' names begin with ``model.``.
    generator : torch.Generator
        Of all noise of an update.
    """

    def __init__(
        self,
        update: Callable[[torch.Tensor, int], torch.Tensor],
        state: Callable[[], Tensors],
        generator: torch.Generator,
    ) -> None:
        self._update, self._state, self._generator = update, state, generator
        self._plain_steps: dict[tuple[int, int], int] = {}
        self._captured: dict[tuple[int, int], _Captured] = {}
        self._pool: Any = None  # memory that all graphs share, as they run one after the other
        self.works = True

    def step(self, rows: torch.Tensor, epoch: int, phase: int) -> torch.Tensor:
        """Update on the rows; returns the loss before the update.

        Parameters
        ----------
        rows : torch.Tensor of int64, shape (B,)
        epoch : int
        phase : int
            Epochs of one phase run the same operations.
        """
        key = (len(rows), phase)
        if key in self._captured and self.works:
            return self._captured[key].step(rows)
        done = self._plain_steps.get(key, 0)
        if done < PLAIN_STEPS or not self.works:
            self._plain_steps[key] = done + 1
            return self._update(rows, epoch)
        return self._first_step(key, rows, epoch)

    def _first_step(self, key: tuple[int, int], rows: torch.Tensor, epoch: int) -> torch.Tensor:
        """Capture, and take the step twice from one state: plainly, then from the graph."""
        before, noise = self._snapshot(), self._generator.get_state()
        try:
            captured = self._capture(rows, epoch)
        except RuntimeError as error:
            return self._give_up(str(error).partition("\n")[0], before, noise, rows, epoch)
        self._generator.set_state(noise)
        self._update(rows, epoch)
        plain = self._snapshot()
        self._restore(before, noise)
        loss = captured.step(rows)
        if not _agree(before, plain, self._state()):
            return self._give_up("its first step is not the plain one", before, noise, rows, epoch)
        self._captured[key] = captured
        return loss

    def _capture(self, rows: torch.Tensor, epoch: int) -> _Captured:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph, own_rows = torch.cuda.CUDAGraph(), rows.clone()
        register = getattr(graph, "register_generator_state", None)  # newer torch finds the generator by itself
        if register is not None:
            register(self._generator)
        # What other threads do with the GPU meanwhile is none of this capture's business.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            loss = self._update(own_rows, epoch)
        return _Captured(graph, own_rows, loss)

    def _give_up(
        self, reason: str, before: Tensors, noise: torch.Tensor, rows: torch.Tensor, epoch: int
    ) -> torch.Tensor:
        logger.warning("training goes on without CUDA graphs, more slowly: %s", reason)
        self.works = False
        self._captured.clear()
        self._restore(before, noise)
        return self._update(rows, epoch)

    def _snapshot(self) -> Tensors:
        return {name: tensor.clone() for name, tensor in self._state().items()}

    def _restore(self, before: Tensors, noise: torch.Tensor) -> None:
        for name, tensor in self._state().items():
            tensor.copy_(before[name])  # in place: graphs know the addresses
        self._generator.set_state(noise)


def _agree(before: Tensors, plain: Tensors, captured: Tensors) -> bool:
    """Whether two updates from one state agree, but for the order in which a GPU adds."""
    changed = differs = 0.0
    for name, tensor in before.items():
        if name.startswith("model.") and tensor.is_floating_point():
            changed += float((plain[name] - tensor).abs().sum())
            differs += float((captured[name] - plain[name]).abs().sum())
    return differs <= AGREEMENT * changed
