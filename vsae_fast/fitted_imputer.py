"""From a fitted estimator to what imputes with its networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from vsae_fast.calibration import spread_factors
from vsae_fast.ensemble_imputation import EnsembleImputer, drawing_members
from vsae_fast.imputation import RowImputer
from vsae_fast.ops.importance_impute import PRECISIONS
from vsae_fast.parameters import check_parameters, n_threads
from vsae_fast.placement import choose_backend

if TYPE_CHECKING:
    from vsae_fast.estimator import VSAEImputer


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
    backend = choose_backend(device, estimator.backend, estimator.precision)
    if tolerance is None:
        tolerance = estimator.tolerance
    if tolerance is None:
        tolerance = estimator.default_tolerance_ if estimator.n_samples is None else 0.0
    return EnsembleImputer(
        [
            RowImputer(
                model if next(model.parameters()).device == device else model.to(device),
                seed=estimator.seed_ + member,
                n_samples=estimator.n_samples or estimator.default_n_samples_,
                visible_weight=estimator.visible_weight_ if visible_weight is None else visible_weight,
                sampler=estimator.sampler or estimator.default_sampler_,
                n_fills=estimator.n_fills,
                tolerance=tolerance,
                backend=backend,
                precision=estimator.precision if estimator.precision in PRECISIONS else PRECISIONS[0],
                n_threads=n_threads(estimator.n_jobs),
            )
            for member, model in enumerate(estimator.models_)
        ],
        _draw_spread(estimator),
        drawing_members(estimator.history_),
        estimator.self_masking_,
    )


def _draw_spread(estimator: VSAEImputer) -> torch.Tensor:
    layout = estimator.schema_.layout()
    numerical = torch.tensor([kind == "numerical" for kind in layout.kinds])
    drawing = [estimator.history_[i] for i in drawing_members(estimator.history_)]
    known = [history.spread for history in drawing if history.spread is not None]
    return spread_factors(known, numerical[layout.column_attribute(torch.device("cpu"))])
