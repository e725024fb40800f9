"""The training loop: mini-batches, Adam, a validation split, the best epoch kept."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Literal

import torch

from vsae_fast.calibration import SpreadMoments
from vsae_fast.checkpoints import Checkpoint, Saved
from vsae_fast.hidden_cells import imputation_error
from vsae_fast.models.latent_model import LatentModel
from vsae_fast.models.vsae import VSAE
from vsae_fast.native_training import NativeTrainer, Trainable, TrainableObjective, supports
from vsae_fast.objective import HideAndScore, Objective
from vsae_fast.ops.draws import StreamDraws, TorchDraws
from vsae_fast.ops.registry import GPU_BACKENDS
from vsae_fast.torch_training import VALIDATION_CHUNK, TorchTrainer, below

logger = logging.getLogger("vsae_fast")

MIN_VALIDATION_ROWS = 10
WARM_UP_SHARE = 0.2  # of the steps, in the one-cycle schedule
GRAPHS = "VSAE_FAST_CUDA_GRAPHS"  # environment variable; 0 trains on a GPU without CUDA graphs
VALIDATION_PATTERNS = 4  # in which known cells are hidden after each epoch, where they choose it
STILL_RISING = 0.05  # share of the whole rise that the last tenth of the epochs may still bring before we warn


class StoppedError(Exception):
    """Another network failed, or the user interrupted."""


@dataclass(frozen=True)
class TrainingPlan:
    """How long and how fast to train.

    Parameters
    ----------
    epochs : int
        Passes over the training rows.
    batch_size : int
    learning_rate : float
        Of Adam; the peak where ``schedule`` is ``"one-cycle"``.
    schedule : {"constant", "one-cycle"}
    weight_decay : float
        Decoupled from the gradient (AdamW).
    validation_fraction : float
        Share of the rows that choose the best epoch; 0 keeps the last epoch.
    clip_norm : float or None
        Largest norm of a gradient.
    patience : int or None
        Epochs without a better validation score after which training ends; None never ends it early.
    bootstrap : bool
        Train on as many rows drawn with replacement from the training rows; validation rows stay apart.
    validate_by : {"bound", "hidden cells"}
        Validation score: that of the objective, or minus the error on known cells of the validation rows that are
        hidden for the purpose (:func:`~vsae_fast.hidden_cells.imputation_error`), where there are any. A bound on pairs
        of images goes on rising while a network learns the training pairs by heart.
    """

    epochs: int
    batch_size: int = 64
    learning_rate: float = 1e-3
    schedule: Literal["constant", "one-cycle"] = "constant"
    weight_decay: float = 0.0
    validation_fraction: float = 0.1
    clip_norm: float | None = None
    patience: int | None = None
    bootstrap: bool = False
    validate_by: Literal["bound", "hidden cells"] = "bound"


@dataclass
class History:
    """Record of one training run; one entry per epoch.

    Attributes
    ----------
    epoch : list of int
    loss : list of float
        Mean training loss.
    score : list of float
        Validation score, nan without a validation split.
    best_epoch : int
        Epoch whose parameters were kept.
    imputation_error : float
        Of that epoch on hidden known cells of the validation rows (:func:`~vsae_fast.hidden_cells.imputation_error`);
        nan without a split.
    spread : SpreadMoments or None
        Width of its draws on such cells (:func:`~vsae_fast.calibration.spread_moments`); None without a split.
    weight_decay : float
        That it was trained with.
    seed : int
        Of the training, which decides which rows were kept for validation.
    ended_by : {"epochs", "patience", "time", "callback"}
    """

    epoch: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    best_epoch: int = -1
    imputation_error: float = math.nan
    spread: SpreadMoments | None = None
    weight_decay: float = 0.0
    seed: int = 0
    ended_by: str = "epochs"

    def after(self, earlier: History) -> History:
        """Record of both runs, where this one went on from the parameters of an earlier one."""
        n = len(earlier.epoch)
        return replace(
            self,
            epoch=[*earlier.epoch, *(n + epoch for epoch in self.epoch)],
            loss=[*earlier.loss, *self.loss],
            score=[*earlier.score, *self.score],
            best_epoch=n + self.best_epoch if self.best_epoch >= 0 else earlier.best_epoch,
        )

    def still_rising(self) -> bool:
        """Whether the validation score was still improving when training ended."""
        if len(self.score) < 20 or math.isnan(self.score[-1]):
            return False
        tail = max(len(self.score) // 10, 1)
        before, best = max(self.score[:-tail]), max(self.score)
        return best - before > STILL_RISING * (best - self.score[0]) > 0


Progress = Callable[[int, float, float], bool]  # epoch, loss, score; True ends the training


def constant(progress: float) -> float:
    """Share of the learning rate: all of it, always."""
    del progress
    return 1.0


def one_cycle(progress: float) -> float:
    """Share of the peak learning rate after ``progress`` (0 to 1) of the steps: linear rise, then half a cosine."""
    if progress < WARM_UP_SHARE:
        return 0.1 + 0.9 * progress / WARM_UP_SHARE
    return 0.5 + 0.5 * math.cos(math.pi * (progress - WARM_UP_SHARE) / (1 - WARM_UP_SHARE))


def batches(n_rows: int, batch_size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Shuffled row indices; a last batch of one row joins the one before, as batch normalisation needs two."""
    order = torch.randperm(n_rows, generator=generator, device=generator.device)
    ends = list(range(batch_size, n_rows, batch_size))
    if ends and n_rows - ends[-1] == 1:
        ends.pop()
    start = 0
    for end in [*ends, n_rows]:
        yield order[start:end]
        start = end


def split(n_rows: int, fraction: float, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Shuffled training and validation rows; no validation where it would get fewer than ten rows."""
    order = torch.randperm(n_rows, generator=generator, device=generator.device)
    n_validation = round(fraction * n_rows)
    if n_validation < MIN_VALIDATION_ROWS:
        n_validation = 0
    return order[n_validation:], order[:n_validation]


def resampled(rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """As many rows, drawn with replacement (Efron's bootstrap)."""
    drawn = torch.randint(max(len(rows), 1), rows.shape, generator=generator, device=generator.device)
    return rows[drawn]


@dataclass
class _Run:
    """What the training loop carries from epoch to epoch, beside the trainer and the generator."""

    history: History
    n_steps: int = 0
    spent: float = 0.0  # seconds
    since_best: int = 0
    best_score: float = -math.inf
    best_state: dict[str, torch.Tensor] | None = None

    def save(self, checkpoint: Checkpoint, trainer: TorchTrainer | NativeTrainer, generator: torch.Generator) -> None:
        """Write down where training stands between two epochs."""
        tensors = {f"trainer.{name}": tensor for name, tensor in trainer.state().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in (self.best_state or {}).items()}
        tensors["generator"] = generator.get_state()
        plain = {name: getattr(self, name) for name in ("n_steps", "spent", "since_best", "best_score")}
        checkpoint.save(tensors, {"ended": False, "history": asdict(self.history), **plain})

    @classmethod
    def restore(cls, saved: Saved, trainer: TorchTrainer | NativeTrainer, generator: torch.Generator) -> _Run:
        """Go on from what :meth:`save` wrote."""
        trainer.load_state(below(saved.tensors, "trainer."))
        generator.set_state(saved.tensors["generator"])
        facts = dict(saved.facts)
        del facts["ended"]
        history = History(**facts.pop("history"))
        logger.info("training goes on after epoch %d", len(history.epoch))
        return cls(history, best_state=below(saved.tensors, "best.") or None, **facts)


def make_trainer(
    model: LatentModel,
    x: torch.Tensor,
    mask: torch.Tensor,
    objective: Objective,
    plan: TrainingPlan,
    generator: torch.Generator,
    backend: str = "auto",
    n_threads: int | None = None,
) -> TorchTrainer | NativeTrainer:
    """Trainer that ``backend`` names: one C++ call a step, autograd, or the first that can run.

    Raises
    ------
    ValueError
        ``backend="cpu"`` for a model that the C++ trainer cannot train.
    """
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    native = supports(model, objective)
    if backend == "cpu" and not native:
        raise ValueError(
            "backend='cpu' trains in float32 on the CPU, a VSAE, Autoencoder, VAE, CVAE, MVAE or HIVAE of categories "
            "on an objective of its own; use backend='reference'"
        )
    if native and backend != "reference":
        assert isinstance(model, Trainable)
        assert isinstance(objective, TrainableObjective)
        max_rows = max(plan.batch_size + 1, VALIDATION_CHUNK)
        return NativeTrainer(
            model,
            objective,
            x,
            mask,
            max_rows=max_rows,
            seed=seed,
            weight_decay=plan.weight_decay,
            clip_norm=plan.clip_norm,
            n_threads=n_threads,
        )
    draws = StreamDraws(seed) if x.device.type == "cpu" else TorchDraws(generator)
    # What C++ trains gets here for the reference, or for a GPU's kernels on request; other models train on the ops'
    # own kernels.
    return TorchTrainer(
        model,
        objective,
        x,
        mask,
        draws=draws,
        weight_decay=plan.weight_decay,
        clip_norm=plan.clip_norm,
        backend="reference" if isinstance(model, VSAE) and backend not in GPU_BACKENDS else backend,
        graphs=x.device.type == "cuda" and os.environ.get(GRAPHS, "1") != "0",
    )


def train(
    model: LatentModel,
    x: torch.Tensor,
    mask: torch.Tensor,
    objective: Objective,
    plan: TrainingPlan,
    generator: torch.Generator,
    progress: Progress | None = None,
    backend: str = "auto",
    n_threads: int | None = None,
    stop: threading.Event | None = None,
    *,
    max_seconds: float = math.inf,
    trained: bool = False,
    checkpoint: Checkpoint | None = None,
) -> History:
    """Train in place; leaves the model in evaluation mode with the parameters of its best epoch.

    Parameters
    ----------
    model : LatentModel
    x : torch.Tensor, shape (N, D)
        Encoded rows.
    mask : torch.Tensor, shape (N, M)
        1 = observed.
    objective : Objective
    plan : TrainingPlan
    generator : torch.Generator
        Decides the split, the batches and all noise; torch's global generator is not touched.
    progress : callable, optional
        Called with (epoch, loss, score) after each epoch; training ends where it returns True.
    backend : {"auto", "cpu", "cuda", "triton", "reference"}
        See :func:`make_trainer`.
    n_threads : int, optional
        Of the C++ trainer; torch's own setting where it is left out. They change no bit of the result.
    stop : threading.Event, optional
        Looked at every hundredth of a second or before every step, so that another thread can end the training.
    max_seconds : float
        Training ends after the call of steps that reaches it, the first step at the earliest. A one-cycle schedule
        comes to its end by then, so that results depend on the machine's speed.
    trained : bool
        Whether the model has been trained before: then its parameters stay unless an epoch scores better.
    checkpoint : Checkpoint, optional
        Where to write how far training has come, and to go on from: with the same arguments it ends with the same
        losses and parameters, bit for bit, as a training that was never cut off.

    Returns
    -------
    History

    Raises
    ------
    FloatingPointError
        The loss stopped being finite, or no validation score was.
    StoppedError
        ``stop`` was set.
    """
    saved = checkpoint.load() if checkpoint is not None else None
    if saved is not None and saved.facts["ended"]:
        model.load_state_dict(below(saved.tensors, "model."))
        model.eval()
        return History(**saved.facts["history"])
    run = _Run(History(weight_decay=plan.weight_decay))
    train_rows, validation_rows, validation_seed = split_and_seed(x.shape[0], plan, generator)
    if plan.bootstrap:
        train_rows = resampled(train_rows, generator)
    x_train, mask_train = x[train_rows], mask[train_rows]
    x_validation, mask_validation = x[validation_rows], mask[validation_rows]
    n_train = x_train.shape[0]
    if n_train < 2 or plan.epochs == 0:
        model.eval()
        return run.history

    trainer = make_trainer(model, x_train, mask_train, objective, plan, generator, backend, n_threads)
    total_steps = plan.epochs * sum(1 for _ in batches(n_train, plan.batch_size, torch.Generator(x.device)))
    factor = one_cycle if plan.schedule == "one-cycle" else constant
    validate = _validation(trainer, model, objective, plan, x_validation, mask_validation, validation_seed)
    if saved is not None:
        run = _Run.restore(saved, trainer, generator)
    elif trained and len(x_validation):
        run.best_score = validate()
        run.best_state = trainer.copy_state()
    history, begin = run.history, time.monotonic() - run.spent
    for epoch in range(len(history.epoch), plan.epochs):
        losses: list[float | torch.Tensor] = []
        shuffled = batches(n_train, plan.batch_size, generator)
        while now := list(islice(shuffled, trainer.at_once)):
            if stop is not None and stop.is_set():
                raise StoppedError
            passed = [max((run.n_steps + i) / total_steps, run.spent / max_seconds) for i in range(len(now))]
            losses += trainer.steps(now, epoch, [plan.learning_rate * factor(share) for share in passed])
            run.n_steps += len(now)
            run.spent = time.monotonic() - begin
            if run.spent >= max_seconds:
                break
        mean_loss = _mean(losses)
        if not math.isfinite(mean_loss):
            raise FloatingPointError(f"the training loss became {mean_loss} in epoch {epoch}; lower learning_rate")
        reached = validate()
        history.epoch.append(epoch)
        history.loss.append(mean_loss)
        history.score.append(reached)
        run.since_best += 1
        if not len(x_validation) or (math.isfinite(reached) and reached > run.best_score):
            run.best_score, history.best_epoch, run.since_best = reached, epoch, 0
            if len(x_validation):
                run.best_state = trainer.copy_state()
        if progress is not None and progress(epoch, mean_loss, reached):
            history.ended_by = "callback"
            break
        if run.spent >= max_seconds:
            history.ended_by = "time"
            break
        if plan.patience is not None and run.since_best >= plan.patience and epoch + 1 < plan.epochs:
            history.ended_by = "patience"
            break
        if checkpoint is not None and checkpoint.due():
            run.save(checkpoint, trainer, generator)
    if len(x_validation) and run.best_state is None:
        raise FloatingPointError("no epoch had a finite validation score; lower learning_rate")
    trainer.write_back()
    if run.best_state is not None:
        model.load_state_dict(run.best_state)
    model.eval()
    if len(x_validation):
        weight = visible_weight(objective)
        history.imputation_error = imputation_error(model, x_validation, mask_validation, weight, validation_seed)
    if checkpoint is not None:
        checkpoint.save(
            {f"model.{name}": tensor for name, tensor in model.state_dict().items()},
            {"ended": True, "history": asdict(history)},
        )
    logger.info(
        "kept epoch %d of %d, ended by %s (validation score %.4f)",
        history.best_epoch + 1, len(history.epoch), history.ended_by, run.best_score,
    )  # fmt: skip
    if history.ended_by == "epochs" and history.still_rising():
        logger.warning("the validation score was still rising after %d epochs; raise epochs", plan.epochs)
    return history


def _validation(
    trainer: TorchTrainer | NativeTrainer,
    model: LatentModel,
    objective: Objective,
    plan: TrainingPlan,
    x: torch.Tensor,
    mask: torch.Tensor,
    seed: int,
) -> Callable[[], float]:
    """What scores the trainer's parameters, always on the same noise and hidden cells; nan without validation rows."""
    if not len(x):
        return lambda: math.nan

    def bound() -> float:
        return trainer.score(x, mask, seed)

    def hidden_cells() -> float:
        trainer.write_back()
        model.eval()
        return -imputation_error(model, x, mask, visible_weight(objective), seed, n_patterns=VALIDATION_PATTERNS)

    # Rows that know next to nothing have no cell to hide.
    return bound if plan.validate_by == "bound" or math.isnan(hidden_cells()) else hidden_cells


def _mean(losses: list[float | torch.Tensor]) -> float:
    """Mean over an epoch's steps; the only time in them that a GPU is waited for."""
    tensors = [loss for loss in losses if isinstance(loss, torch.Tensor)]
    return float(torch.stack(tensors).double().mean()) if tensors else sum(map(float, losses)) / len(losses)


def split_and_seed(
    n_rows: int, plan: TrainingPlan, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Training rows, validation rows, and the seed of all noise on the latter."""
    training, validation = split(n_rows, plan.validation_fraction, generator)
    return training, validation, int(torch.randint(2**62, (), generator=generator, device=generator.device))


def visible_weight(objective: Objective) -> float:
    """Exponent of p(x_o | z) that the model was trained with."""
    return objective.visible_weight if isinstance(objective, HideAndScore) else 1.0
