"""Several networks of one recipe, trained side by side from their own seeds; validation chooses among weight decays."""

from __future__ import annotations

import copy
import math
import statistics
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from vsae_fast.checkpoints import Checkpoints
from vsae_fast.models.vsae import VSAE
from vsae_fast.monitor import Monitor
from vsae_fast.native_training import supports
from vsae_fast.objective import Objective
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.presets import Preset
from vsae_fast.training import History, Progress, TrainingPlan, train

RULED_OUT = 2.0  # standard errors
# From this many rows on, a weight decay whose first network is worse than the best by this share trains no others. In
# 17 trainings on four such tables no decay that validation kept in the end would have been lost.
RACE_ROWS, OUT_OF_RACE = 1000, 0.08


@dataclass(frozen=True)
class NetworkTraining:
    """How one network is to be trained; goes through pickle.

    Parameters
    ----------
    model : VSAE
    objective : Objective
    plan : TrainingPlan
    seed : int
    backend : {"auto", "cpu", "cuda", "triton", "reference"}
    trained : bool
        Whether it has been trained before.
    """

    model: VSAE
    objective: Objective
    plan: TrainingPlan
    seed: int
    backend: str
    trained: bool

    def run(self, x: torch.Tensor, mask: torch.Tensor, progress: Progress | None = None, **options: Any) -> History:
        """Train it in place; ``options`` are those of :func:`vsae_fast.training.train`."""
        generator = torch.Generator(x.device).manual_seed(self.seed)
        history = train(
            self.model, x, mask, self.objective, self.plan, generator, progress, self.backend,
            trained=self.trained, **options,
        )  # fmt: skip
        return replace(history, seed=self.seed)


# Trains one network, within so many seconds, on data that it has; returns its parameters and its record.
TrainElsewhere = Callable[[NetworkTraining, float], tuple[dict[str, torch.Tensor], History]]


@dataclass(frozen=True)
class RunOptions:
    """Where and for how long networks are trained, and who hears of it: nothing that decides what they become.

    Parameters
    ----------
    backend : {"auto", "cpu", "cuda", "triton", "reference"}
    n_threads : int
        With the C++ trainer networks share the threads out among themselves, which scales better than threads within a
        step; results do not depend on how.
    verbose, callbacks, estimator, max_time : optional
        See :class:`~vsae_fast.monitor.Monitor`.
    checkpoints : Checkpoints, optional
        Of the networks by their number; what was finished or begun there is gone on with.
    train_elsewhere : callable, optional
        Trains one network on another machine, all of them at once; callbacks hear of its epochs when it is back.
    """

    backend: str = "auto"
    n_threads: int = 1
    verbose: int = 0
    callbacks: Sequence[Callable[..., Any]] = ()
    estimator: Any = None
    max_time: float = math.inf
    checkpoints: Checkpoints | None = None
    train_elsewhere: TrainElsewhere | None = None

    def n_workers(self, model: VSAE, preset: Preset, n_jobs: int) -> int:
        """How many networks like this one are trained at once."""
        if self.train_elsewhere:
            return n_jobs
        native = self.backend != "reference" and supports(model, preset.objective)
        return min(self.n_threads, n_jobs) if native else 1

    def monitor(self, n_jobs: int, n_epochs: int, n_workers: int) -> Monitor:
        """Watcher of so many networks."""
        return Monitor(
            n_jobs, n_epochs, callbacks=self.callbacks, estimator=self.estimator, verbose=self.verbose,
            max_time=self.max_time, n_workers=n_workers,
        )  # fmt: skip


def train_models(
    layout: AttributeLayout,
    preset: Preset,
    x: torch.Tensor,
    mask: torch.Tensor,
    seed: int,
    options: RunOptions | None = None,
) -> tuple[list[VSAE], list[History]]:
    """Train ``preset.n_models`` networks for each weight decay; keep those of decays that validation does not rule out.

    Parameters
    ----------
    layout : AttributeLayout
    preset : Preset
    x : torch.Tensor, shape (N, D)
        Encoded rows; its device is where training runs.
    mask : torch.Tensor, shape (N, M)
        1 = observed.
    seed : int
        Member ``i`` is trained from ``seed + i``.
    options : RunOptions, optional

    Returns
    -------
    models : list of VSAE
        In evaluation mode.
    histories : list of History
    """
    plans = [replace(preset.plan, weight_decay=decay) for decay in preset.weight_decays]
    n, n_candidates = preset.n_models, len(plans)
    jobs = [(plan, member) for plan in plans for member in range(n)]
    models = []
    for _, member in jobs:
        with torch.random.fork_rng(devices=[]):  # torch.nn draws initial parameters from the global generator
            torch.manual_seed(seed + member)
            models.append(VSAE(layout, preset.network).to(x.device))
    options = options or RunOptions()
    n_workers = options.n_workers(models[0], preset, len(jobs))
    histories: dict[int, History] = {}
    with options.monitor(len(jobs), preset.plan.epochs, n_workers) as monitor:

        def train_jobs(chosen: list[int]) -> None:
            done = _train_all(
                {job: models[job] for job in chosen}, [jobs[job][0] for job in chosen], preset, x, mask,
                [seed + jobs[job][1] for job in chosen], options, n_workers=n_workers, monitor=monitor,
            )  # fmt: skip
            histories.update(zip(chosen, done, strict=True))

        candidates = list(range(n_candidates))
        if n > 1 and n_candidates > 1 and len(x) >= RACE_ROWS:
            train_jobs([n * candidate for candidate in candidates])
            candidates = still_in_race([histories[n * candidate].imputation_error for candidate in candidates])
            monitor.left_out((n - 1) * (n_candidates - len(candidates)))
        chosen = [n * candidate + member for candidate in candidates for member in range(n)]
        train_jobs([job for job in chosen if job not in histories])
    errors = [[histories[n * candidate + member].imputation_error for member in range(n)] for candidate in candidates]
    kept = [n * candidates[i] + member for i in plausible(errors) for member in range(n)]
    return [models[job] for job in kept], [histories[job] for job in kept]


def train_further(
    models: Sequence[VSAE],
    histories: Sequence[History],
    preset: Preset,
    x: torch.Tensor,
    mask: torch.Tensor,
    seed: int,
    options: RunOptions | None = None,
) -> tuple[list[VSAE], list[History]]:
    """Go on with networks that have been trained, each with its own weight decay.

    Parameters
    ----------
    models : sequence of VSAE
        Left as they are.
    histories : sequence of History
    preset, x, mask, seed, options
        See :func:`train_models`.

    Returns
    -------
    models : list of VSAE
        Copies, in evaluation mode; as good as before on the validation rows, or better.
    histories : list of History
        Of all epochs.
    """
    copies = [copy.deepcopy(model).to(x.device) for model in models]
    plans = [replace(preset.plan, weight_decay=history.weight_decay) for history in histories]
    # Batches and noise of their own: those of the epochs before would repeat otherwise.
    past = max(len(history.epoch) for history in histories)
    fresh = int(np.random.SeedSequence([seed, past]).generate_state(1)[0])
    # As in the first training, networks of one position share their seed, whatever their weight decay.
    decays = [history.weight_decay for history in histories]
    seeds = [fresh + decays[:i].count(decay) for i, decay in enumerate(decays)]
    options = options or RunOptions()
    n_workers = options.n_workers(copies[0], preset, len(copies))
    with options.monitor(len(copies), preset.plan.epochs, n_workers) as monitor:
        added = _train_all(
            dict(enumerate(copies)), plans, preset, x, mask, seeds, options,
            n_workers=n_workers, monitor=monitor, trained=True,
        )  # fmt: skip
    return copies, [new.after(old) for new, old in zip(added, histories, strict=True)]


def _train_all(
    models: dict[int, VSAE],
    plans: Sequence[TrainingPlan],
    preset: Preset,
    x: torch.Tensor,
    mask: torch.Tensor,
    seeds: Sequence[int],
    options: RunOptions,
    *,
    n_workers: int,
    monitor: Monitor,
    trained: bool = False,
) -> list[History]:
    """Train every model in place by its own plan and seed; the keys are their numbers to the monitor."""
    stop = threading.Event()
    numbers = list(models)

    def run(job: int) -> History:
        number = numbers[job]
        own = NetworkTraining(models[number], preset.objective, plans[job], seeds[job], options.backend, trained)
        max_seconds = monitor.seconds_for_next()
        if options.train_elsewhere is not None:
            state, history = options.train_elsewhere(own, max_seconds)
            models[number].load_state_dict(state)
            models[number].eval()
            for epoch in zip(history.epoch, history.loss, history.score, strict=True):
                monitor.epoch_ended(number, *epoch)
            return history
        return own.run(
            x,
            mask,
            lambda *epoch: monitor.epoch_ended(number, *epoch),
            n_threads=max(options.n_threads // n_workers, 1),
            stop=stop,
            max_seconds=max_seconds,
            checkpoint=options.checkpoints.of(number) if options.checkpoints is not None else None,
        )

    return _run_all(run, len(models), n_workers, stop)


def still_in_race(errors: list[float]) -> list[int]:
    """Candidates whose first network is not far behind the best one; all of them where there was no validation.

    Examples
    --------
    >>> still_in_race([0.60, 0.64, 0.66])
    [0, 1]
    """
    if any(math.isnan(error) for error in errors):
        return list(range(len(errors)))
    return [i for i, error in enumerate(errors) if error <= (1 + OUT_OF_RACE) * min(errors)]


def plausible(errors: list[list[float]]) -> list[int]:
    """Candidates that validation does not rule out.

    Parameters
    ----------
    errors : list of list of float
        Imputation error of each member of each candidate. Members of one position share their seed, and with it their
        validation rows and hidden cells, so that differences are paired.

    Returns
    -------
    list of int
        The best candidate, and those that are worse by no more than ``RULED_OUT`` standard errors of the mean
        difference; all of them where there was no validation.

    Examples
    --------
    >>> plausible([[3.0, 4.0, 2.0], [2.0, 2.9, 1.1]]), plausible([[3.0, 4.0, 2.0], [2.0, 4.9, 1.5]])
    ([1], [0, 1])
    """
    means = [statistics.fmean(candidate) for candidate in errors]
    if any(math.isnan(mean) for mean in means):
        return list(range(len(errors)))
    best = min(range(len(errors)), key=means.__getitem__)
    kept = []
    for candidate, own in enumerate(errors):
        differences = [a - b for a, b in zip(own, errors[best], strict=True)]
        error = statistics.stdev(differences) / math.sqrt(len(own)) if len(own) > 1 else 0.0
        if statistics.fmean(differences) <= RULED_OUT * error:
            kept.append(candidate)
    return kept


def _run_all(run: Callable[[int], History], n_jobs: int, n_workers: int, stop: threading.Event) -> list[History]:
    if n_workers == 1:
        return [run(job) for job in range(n_jobs)]
    with ThreadPoolExecutor(n_workers) as pool:
        try:
            futures = [pool.submit(run, job) for job in range(n_jobs)]
            return [future.result() for future in futures]
        except BaseException:  # an interrupt, between two submits too: the pool would wait for what runs already
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
