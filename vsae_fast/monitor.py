"""Who watches a training: the caller's callbacks, scikit-learn's, the progress bar, and the time that is left."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tqdm.auto import tqdm

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in where scikit-learn has no callbacks."""

    def with_callbacks(method: Any) -> Any:
        """Return the method as it is."""
        return method


__all__ = ["CallbackSupportMixin", "Epoch", "Monitor", "on_screen", "with_callbacks"]


LEAST_SHARE = 0.5  # of the time that an equal division would give a network


class Epoch(NamedTuple):
    """What a callback is told after each epoch.

    Attributes
    ----------
    network, n_networks : int
        Which of the networks, and how many there are at most; they are trained side by side.
    epoch, n_epochs : int
        Which of its epochs has ended, and how many it has at most.
    loss, score : float
        Mean training loss, and validation score (nan without a validation split).
    """

    network: int
    n_networks: int
    epoch: int
    n_epochs: int
    loss: float
    score: float


Callback = Callable[[Epoch], Any]


def on_screen() -> bool:
    """Whether somebody sees a progress bar: a terminal or a notebook, not a pipe or a file."""
    return "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())


class Monitor:
    """Takes the epochs of all networks, one at a time, whichever thread they come from.

    Parameters
    ----------
    n_networks, n_epochs : int
    callbacks : sequence of callable
        Called with an :class:`Epoch`; that network's training ends where one returns True.
    estimator : estimator, optional
        Whose scikit-learn callbacks are to be called.
    verbose : int
        1 shows a progress bar, on a terminal or in a notebook.
    max_time : float
        Seconds for all networks together.
    n_workers : int
        Networks that are trained at once.
    """

    def __init__(
        self,
        n_networks: int,
        n_epochs: int,
        *,
        callbacks: Sequence[Callback] = (),
        estimator: Any = None,
        verbose: int = 0,
        max_time: float = math.inf,
        n_workers: int = 1,
    ) -> None:
        self._n_networks, self._n_epochs, self._n_workers = n_networks, n_epochs, n_workers
        self._callbacks, self._estimator = callbacks, estimator
        self._lock = threading.Lock()
        self._deadline = time.monotonic() + max_time
        self._least_seconds = LEAST_SHARE * max_time * n_workers / n_networks
        self._waiting = n_networks
        hidden = verbose < 1 or not on_screen()
        self._bar = tqdm(total=n_networks * n_epochs, desc="training", unit="epoch", disable=hidden)
        self._fit: Any = None
        self._networks: dict[int, Any] = {}
        self._told: dict[int, int] = {}  # epochs of each network
        if getattr(estimator, "_skl_callbacks", None) or hasattr(estimator, "_parent_callback_ctx"):
            self._fit = estimator._init_callback_context(max_subtasks=n_networks, sequential_subtasks=False)
            self._fit.call_on_fit_task_begin(estimator=estimator)

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
        if self._fit is not None and error[0] is None:
            self._fit.call_on_fit_task_end(estimator=self._estimator)

    def seconds_for_next(self) -> float:
        """Share of the time that is left for a network that begins now.

        Never less than half of an equal share, as validation between the networks takes time as well: a network with a
        step or two would spoil the average.
        """
        with self._lock:
            rounds = math.ceil(self._waiting / self._n_workers)
            self._waiting -= 1
            return max((self._deadline - time.monotonic()) / rounds, self._least_seconds)

    def left_out(self, n_networks: int) -> None:
        """So many networks will not be trained after all."""
        with self._lock:
            self._waiting -= n_networks
            self._bar.total -= n_networks * self._n_epochs

    def epoch_ended(self, network: int, epoch: int, loss: float, score: float) -> bool:
        """Tell everybody; True where the network's training shall end."""
        with self._lock:
            self._bar.update(epoch + 1 - self._told.get(network, 0))  # of a training that goes on, those of before too
            self._told[network] = epoch + 1
            if not self._bar.disable:
                self._bar.set_postfix(loss=f"{loss:.3f}", validation=f"{score:.3f}", refresh=False)
            told = Epoch(network, self._n_networks, epoch, self._n_epochs, loss, score)
            ended = [callback(told) is True for callback in self._callbacks]
            return self._scikit_learn(network, epoch) or any(ended)

    def _scikit_learn(self, network: int, epoch: int) -> bool:
        if self._fit is None:
            return False
        if network not in self._networks:
            self._networks[network] = self._fit.subcontext("network", task_id=network, max_subtasks=self._n_epochs)
            self._networks[network].call_on_fit_task_begin(estimator=self._estimator)
        task = self._networks[network].subcontext("epoch").call_on_fit_task_begin(estimator=self._estimator)
        stop = bool(task.call_on_fit_task_end(estimator=self._estimator))
        if stop or epoch + 1 == self._n_epochs:
            self._networks[network].call_on_fit_task_end(estimator=self._estimator)
        return stop
