"""HI-VAE's likelihoods of heterogeneous attributes (Nazabal et al. 2020, section 3.1).

Values are in the data's own units; parameters come from a decoder, unconstrained. Every attribute's parameters take
``n_parameters`` columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch.nn import functional

Likelihood = Literal["real", "positive", "count", "categorical", "ordinal"]
LIKELIHOODS: tuple[Likelihood, ...] = get_args(Likelihood)
HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
LEAST_VARIANCE, LARGEST_VARIANCE = 1e-4, 1e4  # in standardised units: a spike buys no unbounded likelihood


def n_parameters(likelihood: Likelihood, width: int) -> int:
    """Decoder outputs that an attribute of ``width`` columns takes."""
    return {"real": 2 * width, "positive": 2 * width, "count": width, "categorical": width, "ordinal": width}[
        likelihood
    ]


@dataclass(frozen=True)
class Standardisation:
    """``value = centre + spread * x``; for positive attributes of the logarithm of the value.

    Attributes
    ----------
    centre, spread : torch.Tensor, broadcastable to (..., width)
    """

    centre: torch.Tensor
    spread: torch.Tensor


def _mean(parameters: torch.Tensor, unit: Standardisation | None) -> torch.Tensor:
    mean, _ = parameters.chunk(2, -1)
    return mean if unit is None else unit.centre + unit.spread * mean


def _variance(parameters: torch.Tensor, unit: Standardisation | None) -> torch.Tensor:
    _, raw = parameters.chunk(2, -1)
    variance = functional.softplus(raw).clamp(LEAST_VARIANCE, LARGEST_VARIANCE)
    return variance if unit is None else unit.spread**2 * variance


def _ordinal_log_p(parameters: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (..., R) of an ordinal logit model: ``P(level <= r) = sigmoid(threshold_r - h)``."""
    location, steps = parameters[..., :1], parameters[..., 1:]
    thresholds = torch.cumsum(functional.softplus(steps), -1)  # [..., R - 1], rising
    below = torch.sigmoid(thresholds - location)
    zero, one = torch.zeros_like(location), torch.ones_like(location)
    p = torch.cat([below, one], -1) - torch.cat([zero, below], -1)
    return torch.log(p.clamp_min(1e-12))


def log_likelihood(
    likelihood: Likelihood, parameters: torch.Tensor, value: torch.Tensor, unit: Standardisation | None
) -> torch.Tensor:
    """Log-likelihood of one attribute in nats, shape (...).

    Parameters
    ----------
    likelihood : {"real", "positive", "count", "categorical", "ordinal"}
        Normal; log-normal; Poisson; softmax; ordinal logit.
    parameters : torch.Tensor, shape (..., n_parameters)
    value : torch.Tensor, shape (..., width)
        In the data's own units; one-hot levels for the last two.
    unit : Standardisation or None
        Of the numbers; it keeps the decoder's outputs near 0 and 1. None where the values are standardised, which
        positive numbers and counts cannot be.

    Raises
    ------
    ValueError
        Positive numbers or counts without a unit.
    """
    if likelihood == "categorical":
        return (value * functional.log_softmax(parameters, -1)).sum(-1)
    if likelihood == "ordinal":
        return (value * _ordinal_log_p(parameters)).sum(-1)
    if likelihood == "count":
        rate = _rate(parameters, unit)
        return (value * torch.log(rate) - rate - torch.lgamma(value + 1)).sum(-1)
    variance = _variance(parameters, unit)
    if likelihood == "real":
        return _normal(value - _mean(parameters, unit), variance)
    log_value = torch.log(value)
    return _normal(log_value - _mean(parameters, _given(unit)), variance) - log_value.sum(-1)


def _normal(deviation: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """Log-density of independent normal deviations, summed over the last dimension."""
    terms = deviation**2 / variance + torch.log(variance)
    return -0.5 * terms.sum(-1) - HALF_LOG_TWO_PI * deviation.shape[-1]


def expected(likelihood: Likelihood, parameters: torch.Tensor, unit: Standardisation | None) -> torch.Tensor:
    """Expected value, or the levels' probabilities, shape (..., width).

    A log-normal's expectation is taken at its median: the variance of its logarithm, which the decoder may make large
    for a single sample of z, would dominate an average of expectations.
    """
    if likelihood == "categorical":
        return torch.softmax(parameters, -1)
    if likelihood == "ordinal":
        return torch.exp(_ordinal_log_p(parameters))
    if likelihood == "count":
        return _rate(parameters, unit)
    return torch.exp(_mean(parameters, _given(unit))) if likelihood == "positive" else _mean(parameters, unit)


def _rate(parameters: torch.Tensor, unit: Standardisation | None) -> torch.Tensor:
    """Rate of a Poisson distribution; 1 at the decoder's output of 0 is one standard unit."""
    return _given(unit).spread * functional.softplus(parameters) + 1e-6


def _given(unit: Standardisation | None) -> Standardisation:
    if unit is None:
        raise ValueError("positive numbers and counts need their unit, the encoding's; standardised they are neither")
    return unit
