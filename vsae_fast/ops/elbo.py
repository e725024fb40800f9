"""Likelihood terms and bounds (Gong et al. 2021, equations 4 to 10; importance weighting: Burda et al. 2016).

The average of a log-likelihood over samples of x needs only their mean and variance (Gaussian) or their class
frequencies (softmax), exactly::

    E[log N(x; mu, s)]  = log N(E[x]; mu, s) - Var[x] / (2 s^2)
    E[log softmax(l)_x] = sum_c frequency_c log softmax(l)_c

so one function serves observed data and the expectation over sampled x_u.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from vsae_fast.ops.layout import AttributeLayout, gather_group

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


def data_log_likelihood(
    output: torch.Tensor,
    log_scale: torch.Tensor,
    target: torch.Tensor,
    layout: AttributeLayout,
    target_variance: torch.Tensor | None = None,
) -> torch.Tensor:
    """Log-likelihood of each attribute, or its expectation over samples.

    Parameters
    ----------
    output : torch.Tensor, shape (..., D)
        Data decoder's output: means of numerical columns, logits of categorical ones.
    log_scale : torch.Tensor, shape (D,)
        Log standard deviation of numerical columns.
    target : torch.Tensor, broadcastable to (..., D)
        Values and one-hot levels, or the samples' means and class frequencies.
    layout : AttributeLayout
    target_variance : torch.Tensor, broadcastable to (..., D), optional
        Variance of the samples of numerical columns; 0 where it is left out.

    Returns
    -------
    torch.Tensor, shape (..., M)
    """
    result = output.new_empty(*torch.broadcast_shapes(output.shape, target.shape)[:-1], layout.n_attributes)
    for group in layout.groups(output.device):
        mean = gather_group(output, group, -math.inf if group.kind == "categorical" else 0.0)
        goal = gather_group(target, group, 0.0)
        if group.kind == "categorical":
            log_p = functional.log_softmax(mean, dim=-1)
            terms = torch.where(torch.isinf(log_p), 0.0, goal * log_p)  # padding levels: 0 * -inf
        else:
            ls = gather_group(log_scale, group, 0.0)
            square = (goal - mean) ** 2
            if target_variance is not None:
                square = square + gather_group(target_variance, group, 0.0)
            terms = -0.5 * square * torch.exp(-2 * ls) - ls - HALF_LOG_TWO_PI
            if group.width > 1:
                terms = torch.where(group.columns < layout.n_columns, terms, 0.0)
        result[..., list(group.attributes)] = terms.sum(-1)
    return result


def mask_log_likelihood(mask_logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Bernoulli log-likelihood of the mask, shape (..., M)."""
    return functional.logsigmoid(torch.where(mask > 0, mask_logits, -mask_logits))


def gaussian_kl(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) of each latent dimension, shape (..., L)."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)


def log_prior_ratio(z: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Log N(z; 0, I) - log N(z; mean, exp(log_variance)), summed over the latent dimensions: shape (...)."""
    noise = (z - mean) * torch.exp(-0.5 * log_variance)
    return 0.5 * (noise**2 - z**2 + log_variance).sum(-1)


def elbo(
    output: torch.Tensor,
    log_scale: torch.Tensor,
    mask_logits: torch.Tensor,
    target: torch.Tensor,
    mask: torch.Tensor,
    mean: torch.Tensor,
    log_variance: torch.Tensor,
    layout: AttributeLayout,
    *,
    attribute_weight: torch.Tensor,
    target_variance: torch.Tensor | None = None,
) -> torch.Tensor:
    """Single-sample evidence lower bound of each row.

    ``sum_i weight_i log p(x_i | z) + log p(m | z) - KL(q(z) || p(z))``, the last over all blocks of latents.

    Parameters
    ----------
    output, mask_logits : torch.Tensor, shapes (N, D) and (N, M)
        Both decoders' outputs for one sample of z per row.
    log_scale : torch.Tensor, shape (D,)
    target : torch.Tensor, shape (N, D)
    mask : torch.Tensor, shape (N, M)
        1 = observed.
    mean, log_variance : torch.Tensor, shape (N, L)
        The proposal.
    layout : AttributeLayout
    attribute_weight : torch.Tensor, shape (N, M)
        The mask itself for the bound on (x_o, m); ones for the complete-data bound.
    target_variance : torch.Tensor, shape (N, D), optional
        Of sampled numerical targets.

    Returns
    -------
    torch.Tensor, shape (N,)
    """
    likelihood = data_log_likelihood(output, log_scale, target, layout, target_variance)
    return (
        (attribute_weight * likelihood).sum(-1)
        + mask_log_likelihood(mask_logits, mask).sum(-1)
        - gaussian_kl(mean, log_variance).sum(-1)
    )


def importance_weighted_bound(log_weight: torch.Tensor) -> torch.Tensor:
    """``log mean_k exp(log_weight_k)`` over the first axis: (K, N) to (N,)."""
    return torch.logsumexp(log_weight, 0) - math.log(log_weight.shape[0])
