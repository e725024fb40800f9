"""From a fitted estimator to what imputes with its networks, kept for the next call."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from vsae_fast.calibration import spread_factors
from vsae_fast.ensemble_imputation import EnsembleImputer, drawing_members
from vsae_fast.imputation import RowImputer
from vsae_fast.ops.importance_impute import PRECISIONS
from vsae_fast.parameters import check_parameters, n_threads
from vsae_fast.placement import choose_backend

if TYPE_CHECKING:
    from vsae_fast.estimator import VSAEImputer


# The last one of each estimator. Preparing an ensemble takes longer than imputing a row with it, and a service that
# completes rows as they come calls again and again. Not an attribute of the estimator, which is copied and pickled.
_kept: WeakKeyDictionary[VSAEImputer, tuple[_Origin, EnsembleImputer]] = WeakKeyDictionary()


def fitted_imputer(
    estimator: VSAEImputer, *, visible_weight: float | None = None, tolerance: float | None = None
) -> EnsembleImputer:
    """The ensemble of an estimator's networks, with its present parameters.

    Parameters
    ----------
    estimator : VSAEImputer
        Fitted, with at least one network.
    visible_weight : float, optional
        Weight of visible cells in the importance weights; that of fit where it is left out.
    tolerance : float, optional
        As in :class:`~vsae_fast.VSAEImputer`; the estimator's own where it is left out.

    Raises
    ------
    ValueError, TypeError
        A parameter that was changed since fit is wrong.
    """
    device = check_parameters(estimator)
    if tolerance is None:
        tolerance = estimator.tolerance
    if tolerance is None:
        tolerance = estimator.default_tolerance_ if estimator.n_samples is None else 0.0
    for model in estimator.models_:
        if next(model.parameters()).device != device:
            model.to(device)
    options: dict[str, Any] = {
        "n_samples": estimator.n_samples or estimator.default_n_samples_,
        "visible_weight": estimator.visible_weight_ if visible_weight is None else visible_weight,
        "sampler": estimator.sampler or estimator.default_sampler_,
        "n_fills": estimator.n_fills,
        "tolerance": tolerance,
        "backend": choose_backend(device, estimator.backend, estimator.precision),
        "precision": estimator.precision if estimator.precision in PRECISIONS else PRECISIONS[0],
        "n_threads": n_threads(estimator.n_jobs),
    }
    kept = _kept.get(estimator)
    if kept is not None and kept[0].same(estimator, options):
        return kept[1]
    imputer = EnsembleImputer(
        [RowImputer(model, seed=estimator.seed_ + member, **options) for member, model in enumerate(estimator.models_)],
        _draw_spread(estimator),
        drawing_members(estimator.history_),
        estimator.self_masking_,
        None if estimator.closed_form_ is None else replace(estimator.closed_form_, n_threads=options["n_threads"]),
    )
    _kept[estimator] = _Origin(estimator, options), imputer
    return imputer


class _Origin:
    """What an ensemble was made of."""

    def __init__(self, estimator: VSAEImputer, options: dict[str, Any]) -> None:
        self._values = _values(estimator, options)
        self._objects = _objects(estimator)
        self._modules = [module for model in estimator.models_ for module in model.modules()]
        self._state = self._tensors()

    def same(self, estimator: VSAEImputer, options: dict[str, Any]) -> bool:
        """Whether the same ensemble would be made again."""
        objects = _objects(estimator)
        return (
            _values(estimator, options) == self._values
            and len(objects) == len(self._objects)
            and all(now is then for now, then in zip(objects, self._objects, strict=True))
            and self._tensors() == self._state
        )

    def _tensors(self) -> list[tuple[int, int]]:
        """Where the networks' tensors stand and how often they were written to: torch counts the changes of each.

        A caller may write into them. Not by ``parameters()``, whose walk through the modules takes half a millisecond.
        """
        return [
            (tensor.data_ptr(), tensor._version)
            for module in self._modules
            for tensor in (*module._parameters.values(), *module._buffers.values())
            if tensor is not None
        ]


def _values(estimator: VSAEImputer, options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "seed": estimator.seed_, "self_masking": dict(estimator.self_masking_)}


def _objects(estimator: VSAEImputer) -> tuple[object, ...]:
    return (estimator.schema_, estimator.closed_form_, *estimator.models_, *estimator.history_)


def _draw_spread(estimator: VSAEImputer) -> torch.Tensor:
    numerical = estimator.schema_.layout().numerical_columns(torch.device("cpu"))
    drawing = [estimator.history_[i] for i in drawing_members(estimator.history_)]
    known = [history.spread for history in drawing if history.spread is not None]
    return spread_factors(known, numerical)
