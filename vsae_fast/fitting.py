"""From an estimator's parameters and encoded rows to a trained ensemble."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from vsae_fast.checkpoints import checkpoints_in
from vsae_fast.closed_form_member import ClosedFormMember
from vsae_fast.ensemble_training import RunOptions, TrainElsewhere, train_further, train_models
from vsae_fast.ensemble_validation import validate
from vsae_fast.imputation import check_fills
from vsae_fast.models.vsae import VSAE
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.parameters import n_threads
from vsae_fast.placement import choose_backend
from vsae_fast.presets import Preset, build_preset, with_overrides
from vsae_fast.training import History

if TYPE_CHECKING:
    from vsae_fast.estimator import VSAEImputer


class Trained(NamedTuple):
    """Networks with their records, the closed-form member beside them, if any, and the preset that decided it all."""

    preset: Preset
    models: list[VSAE]
    histories: list[History]
    closed_form: ClosedFormMember | None


def train_ensemble(
    estimator: VSAEImputer,
    layout: AttributeLayout,
    rows: tuple[torch.Tensor, torch.Tensor],
    seed: int,
    before: list[VSAE],
    train_elsewhere: TrainElsewhere | None,
) -> Trained:
    """Train the networks that an estimator's parameters ask for.

    Parameters
    ----------
    estimator : VSAEImputer
        Its parameters have been checked; its record is read where ``before`` holds networks.
    layout : AttributeLayout
    rows : tuple of torch.Tensor, shapes (N, D) and (N, M)
        Encoded rows and their mask, 1 = observed; training runs on their device.
    seed : int
    before : list of VSAE
        To go on from; left as they are.
    train_elsewhere : callable, optional
        See :class:`~vsae_fast.ensemble_training.RunOptions`.
    """
    x, mask = rows
    preset = with_overrides(
        build_preset(estimator.preset, layout, len(x), int(mask.sum(dtype=torch.float64))),
        n_models=estimator.n_models,
        n_iter_no_change=estimator.n_iter_no_change,
        epochs=estimator.epochs,
        batch_size=estimator.batch_size,
        learning_rate=estimator.learning_rate,
        bootstrap=estimator.bootstrap,
    )
    check_fills(estimator.n_fills, preset.network)
    settings = {"preset": preset, "seed": seed, "backend": estimator.backend, "device": estimator.device}
    with checkpoints_in(estimator.checkpoint_dir, rows, before, settings) as checkpoints:
        options = RunOptions(
            backend=choose_backend(x.device, estimator.backend, estimator.precision),
            n_threads=n_threads(estimator.n_jobs),
            verbose=estimator.verbose,
            callbacks=estimator.callbacks or (),
            estimator=estimator,
            max_time=estimator.max_time or math.inf,
            checkpoints=checkpoints,
            train_elsewhere=train_elsewhere,
        )
        if before:
            trained = train_further(before, estimator.history_, preset, x, mask, seed, options)
        else:
            trained = train_models(layout, preset, x, mask, seed, options)
        return Trained(preset, *trained, validate(*trained, preset, x, mask, options.n_threads))
