"""Cells that are missing because of their own value: a term of the mask in the value itself.

Networks learn from the cells that were observed, and so do their predictions. Where a column masks itself, the cells
that are missing are other ones. Both are described together, given the other columns of a row::

    x | others            ~ N(shift + slope prediction, scale^2)
    p(observed | x)       = expit(intercept + coefficient x)

which is the self-masking of Ipsen, Mattei and Frellsen (not-MIWAE, ICLR 2021), with the selection of Diggle and Kenward
(1994), on top of a trained model. Fitted by maximum likelihood to known cells, as the model predicts them from the
other columns, and to the predictions of the missing ones. What identifies it is the shape of the normal distribution,
and that nothing but ``x`` decides: the caller has to know that much.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from vsae_fast.table.column import FloatArray

MOST_CELLS = 5000  # known and missing ones that a term is fitted to
NODES = 40  # of Gauss and Hermite's quadrature in the fit
GRID, REACH = 401, 6.0  # points of the distribution of a missing cell, and how many deviations they reach
PRIOR = 2.5  # standard deviation of the coefficient, which keeps it finite where the mask is a threshold
STARTS = (0.0, -1.0, 1.0, -3.0, 3.0)
BOUNDS = [(-5.0, 5.0), (-1.0, 6.0), (-4.0, 2.0), (-15.0, 15.0), (-15.0, 15.0)]


class SelfMasking(NamedTuple):
    """Term of one column, in its standardised units; plain values for model files.

    Attributes
    ----------
    shift, slope, scale : float
        Of the value given the model's prediction, before cells were masked.
    intercept, coefficient : float
        Of the logit of being observed.
    """

    shift: float
    slope: float
    scale: float
    intercept: float
    coefficient: float


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
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / weights.sum()
    share = n_known / (n_known + n_missing)
    residual = max(float((known - predicted_known).std()), 1e-3)
    best = None
    for coefficient in STARTS:
        start = [0.0, 1.0, math.log(residual), math.log(share / (1 - share)), coefficient]
        found = minimize(
            negative_log_likelihood, start, jac=True, method="L-BFGS-B", bounds=BOUNDS,
            args=(known, predicted_known, predicted_missing, n_known, n_missing, nodes, weights),
        )  # fmt: skip
        if best is None or found.fun < best.fun:
            best = found
    assert best is not None
    shift, slope, log_scale, intercept, coefficient = (float(value) for value in best.x)
    return SelfMasking(shift, slope, math.exp(log_scale), intercept, coefficient)


def negative_log_likelihood(
    parameters: FloatArray,
    known: FloatArray,
    predicted_known: FloatArray,
    predicted_missing: FloatArray,
    n_known: int,
    n_missing: int,
    nodes: FloatArray,
    weights: FloatArray,
) -> tuple[float, FloatArray]:
    """Value and gradient, with the prior of the coefficient; parameters as in :class:`SelfMasking`, the scale's log."""
    shift, slope, log_scale, intercept, coefficient = parameters
    scale = math.exp(log_scale)
    error = (known - shift - slope * predicted_known) / scale
    logit = intercept + coefficient * known
    of_known = -0.5 * error**2 - log_scale + log_expit(logit)
    hidden = expit(-logit)
    d_known = np.stack([error / scale, error * predicted_known / scale, error**2 - 1, hidden, hidden * known])

    x = (shift + slope * predicted_missing)[:, None] + scale * nodes
    seen = expit(intercept + coefficient * x)
    q = (1 - seen) * weights
    total = q.sum(1) + 1e-300
    through = q * seen / total[:, None]  # minus the derivative of the logarithm by the logit, node by node
    each = through.sum(1)
    d_missing = -np.stack([
        coefficient * each, coefficient * each * predicted_missing, coefficient * scale * (through @ nodes), each,
        (through * x).sum(1),
    ])  # fmt: skip
    value = n_known * of_known.mean() + n_missing * np.log(total).mean() - 0.5 * (coefficient / PRIOR) ** 2
    gradient = n_known * d_known.mean(1) + n_missing * d_missing.mean(1)
    gradient[4] -= coefficient / PRIOR**2
    return -float(value), -gradient


def _missing(term: SelfMasking, predicted: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Points of each missing cell's distribution and their probabilities, both (N, GRID)."""
    t = np.linspace(-REACH, REACH, GRID)
    x = (term.shift + term.slope * predicted)[:, None] + term.scale * t
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
