"""Cells that are missing because of their own value: a term of the mask in the value itself.

Networks learn from the cells that were observed, and so do their predictions. Where a column masks itself, the cells
that are missing are other ones. Both are described together, given the other columns of a row::

    x | others            = shift + slope prediction + scale sinh((arsinh(z) + skewness) / tailweight),   z ~ N(0, 1)
    p(observed | x)       = expit(intercept + coefficient x)

which is the self-masking of Ipsen, Mattei and Frellsen (not-MIWAE, ICLR 2021), with the selection of Diggle and Kenward
(1994), on top of a trained model. What is left of a value is sinh-arcsinh distributed (Jones and Pewsey, Biometrika
2009): normal with skewness 0 and tailweight 1, else skewed, with heavier or lighter tails. Fitted by maximum likelihood
to known cells, as the model predicts them from the other columns, and to the predictions of the missing ones. What
identifies it is that the other columns predict ``x`` and, given ``x``, tell nothing about the mask, and for the rest
the form of that distribution: the caller has to know that much.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_expit

from vsae_fast.table.column import FloatArray

MOST_CELLS = 5000  # known and missing ones that a term is fitted to
# Of the fit's quadrature.
NODES, WEIGHTS = (torch.from_numpy(values) for values in np.polynomial.hermite_e.hermegauss(40))
GRID, REACH = 401, 6.0  # points of the distribution of a missing cell, and how many deviations they reach
# Standard deviations of priors: the coefficient's keeps it finite where the mask is a threshold; those of the shape,
# and its bounds, keep tails that nobody has seen from explaining which cells are missing.
PRIOR, PRIOR_SKEWNESS, PRIOR_LOG_TAILWEIGHT = 2.5, 1.0, 0.5
STARTS = (0.0, -1.0, 1.0, -3.0, 3.0)
BOUNDS = [(-5.0, 5.0), (-1.0, 6.0), (-4.0, 2.0), (-15.0, 15.0), (-15.0, 15.0), (-1.0, 1.0), (-0.5, 0.5)]


class SelfMasking(NamedTuple):
    """Term of one column, in its standardised units; plain values for model files.

    Attributes
    ----------
    shift, slope, scale : float
        Of the value given the model's prediction, before cells were masked.
    intercept, coefficient : float
        Of the logit of being observed.
    skewness, tailweight : float
        Shape of what the prediction leaves. 0 and 1 are the normal distribution, and stand for files of before there
        were any.
    """

    shift: float
    slope: float
    scale: float
    intercept: float
    coefficient: float
    skewness: float = 0.0
    tailweight: float = 1.0


def term_of(
    impute: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    mask: torch.Tensor,
    attribute: int,
    column: int,
    seed: int,
) -> SelfMasking:
    """Term of one attribute, fitted to some of its known and missing cells, as a model predicts them.

    Parameters
    ----------
    impute : callable
        Expected values (N, D) of rows and their mask.
    x, mask : torch.Tensor, shapes (N, D) and (N, M)
        Encoded rows, and 1 where observed.
    attribute, column : int
        The attribute, and where it lies in ``x``.
    seed : int
        Decides which cells.
    """
    generator = torch.Generator().manual_seed(seed)
    values, counts = [], []
    for seen in (1, 0):
        rows = torch.nonzero(mask[:, attribute].cpu() == seen)[:, 0]
        counts.append(len(rows))
        rows = rows[torch.randperm(len(rows), generator=generator)[:MOST_CELLS]].sort().values
        blind = mask[rows].clone()
        blind[:, attribute] = 0
        values += [x[rows, column], impute(x[rows], blind)[:, column]]
    known, predicted_known, _, predicted_missing = (value.cpu().double().numpy() for value in values)
    return fit_self_masking(known, predicted_known, predicted_missing, *counts)


def fit_self_masking(
    known: FloatArray, predicted_known: FloatArray, predicted_missing: FloatArray, n_known: int, n_missing: int
) -> SelfMasking:
    """Fit a term.

    Parameters
    ----------
    known : ndarray, shape (n,)
        Observed values.
    predicted_known : ndarray, shape (n,)
        What the model makes of these cells from the other columns of their rows.
    predicted_missing : ndarray, shape (m,)
        What it makes of missing cells.
    n_known, n_missing : int
        Cells that these stand for.
    """
    cells = torch.from_numpy(known), torch.from_numpy(predicted_known), torch.from_numpy(predicted_missing)

    def value_and_gradient(parameters: FloatArray) -> tuple[float, FloatArray]:
        with torch.enable_grad():  # whatever the caller fits under
            leaf = torch.tensor(parameters, requires_grad=True)
            value = negative_log_likelihood(leaf, *cells, n_known, n_missing)
            (gradient,) = torch.autograd.grad(value, leaf)
        return value.item(), gradient.numpy()

    share = n_known / (n_known + n_missing)
    residual = max(float((known - predicted_known).std()), 1e-3)
    best = None
    for coefficient in STARTS:
        start = [0.0, 1.0, math.log(residual), math.log(share / (1 - share)), coefficient, 0.0, 0.0]
        found = minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", bounds=BOUNDS)
        if best is None or found.fun < best.fun:
            best = found
    assert best is not None
    shift, slope, log_scale, intercept, coefficient, skewness, log_tailweight = (float(value) for value in best.x)
    return SelfMasking(shift, slope, math.exp(log_scale), intercept, coefficient, skewness, math.exp(log_tailweight))


def negative_log_likelihood(
    parameters: torch.Tensor,
    known: torch.Tensor,
    predicted_known: torch.Tensor,
    predicted_missing: torch.Tensor,
    n_known: int,
    n_missing: int,
) -> torch.Tensor:
    """With the priors; parameters as in :class:`SelfMasking`, the logarithms of the scale and of the tailweight."""
    shift, slope, log_scale, intercept, coefficient, skewness, log_tailweight = parameters
    scale, tailweight = log_scale.exp(), log_tailweight.exp()
    error = (known - shift - slope * predicted_known) / scale
    angle = tailweight * error.asinh() - skewness  # of the hyperbolic functions; sinh(angle) is standard normal
    of_known = (
        angle.cosh().log() - 0.5 * angle.sinh() ** 2 - 0.5 * (error**2).log1p() + log_tailweight - log_scale
        + torch.nn.functional.logsigmoid(intercept + coefficient * known)
    )  # fmt: skip
    left = scale * ((NODES.asinh() + skewness) / tailweight).sinh()
    x = (shift + slope * predicted_missing)[:, None] + left
    of_missing = ((-intercept - coefficient * x).sigmoid() @ WEIGHTS / math.sqrt(2 * math.pi)).clamp_min(1e-300).log()
    priors = (
        (coefficient / PRIOR) ** 2 + (skewness / PRIOR_SKEWNESS) ** 2 + (log_tailweight / PRIOR_LOG_TAILWEIGHT) ** 2
    )
    value: torch.Tensor = 0.5 * priors - n_known * of_known.mean() - n_missing * of_missing.mean()
    return value


def _missing(term: SelfMasking, predicted: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Points of each missing cell's distribution and their probabilities, both (N, GRID)."""
    t = np.linspace(-REACH, REACH, GRID)
    left = term.scale * np.sinh((np.arcsinh(t) + term.skewness) / term.tailweight)
    x = (term.shift + term.slope * predicted)[:, None] + left
    log_p = -0.5 * t**2 + log_expit(-(term.intercept + term.coefficient * x))
    p = np.exp(log_p - log_p.max(axis=1, keepdims=True))
    return x, p / p.sum(axis=1, keepdims=True)


def expected_missing(term: SelfMasking, predicted: FloatArray) -> FloatArray:
    """Expected values of missing cells, shape (N,), from what the model makes of them."""
    x, p = _missing(term, predicted)
    expected: FloatArray = (x * p).sum(axis=1)
    return expected


def drawn_missing(term: SelfMasking, predicted: FloatArray, uniform: FloatArray) -> FloatArray:
    """Draws of missing cells, shape (N,), by inversion: a uniform number on (0, 1) for each."""
    x, p = _missing(term, predicted)
    below = np.cumsum(p, axis=1) - 0.5 * p
    place = np.clip((below < uniform[:, None]).sum(axis=1), 1, GRID - 1)
    row = np.arange(len(x))
    lower, upper = below[row, place - 1], below[row, place]
    part = np.clip((uniform - lower) / np.maximum(upper - lower, 1e-300), 0.0, 1.0)
    drawn: FloatArray = x[row, place - 1] + part * (x[row, place] - x[row, place - 1])
    return drawn
