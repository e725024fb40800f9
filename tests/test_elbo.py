import math

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence

from tests import tolerances
from tests.random_models import CATEGORICAL, MIXED, NUMERICAL_12, random_rows
from vsae_fast.ops.elbo import (
    data_log_likelihood,
    elbo,
    gaussian_kl,
    importance_weighted_bound,
    log_prior_ratio,
    mask_log_likelihood,
)

LAYOUTS = pytest.mark.parametrize("layout", [MIXED, CATEGORICAL, NUMERICAL_12])


def by_distributions(output, log_scale, x, layout):
    """Log-likelihood of each attribute through torch.distributions, one attribute at a time."""
    terms = []
    for attribute, kind in enumerate(layout.kinds):
        block = slice(layout.starts[attribute], layout.starts[attribute + 1])
        if kind == "numerical":
            terms.append(Normal(output[..., block], log_scale[block].exp()).log_prob(x[..., block]).sum(-1))
        else:
            terms.append(Categorical(logits=output[..., block]).log_prob(x[..., block].argmax(-1)))
    return torch.stack(terms, -1)


@LAYOUTS
def test_likelihood_equals_torch_distributions(layout, generator):
    x, _ = random_rows(layout, 11, generator)
    output = torch.randn(3, 11, layout.n_columns, generator=generator, dtype=torch.float64)
    log_scale = torch.randn(layout.n_columns, generator=generator, dtype=torch.float64)
    expected = by_distributions(output, log_scale, x, layout)
    torch.testing.assert_close(data_log_likelihood(output, log_scale, x, layout), expected)


@LAYOUTS
def test_closed_form_equals_average_over_samples(layout, generator):
    """The expectation over 100 samples of x needs only their moments and frequencies, exactly."""
    output = torch.randn(7, layout.n_columns, generator=generator, dtype=torch.float64)
    log_scale = 0.5 * torch.randn(layout.n_columns, generator=generator, dtype=torch.float64)
    samples = torch.stack([random_rows(layout, 7, generator)[0] for _ in range(100)])
    brute = data_log_likelihood(output, log_scale, samples, layout).mean(0)
    moment, variance = samples.mean(0), samples.var(0, unbiased=False)
    closed = data_log_likelihood(output, log_scale, moment, layout, variance)
    torch.testing.assert_close(closed, brute, rtol=tolerances.EXACT, atol=tolerances.EXACT)


def test_mask_likelihood_and_kl_equal_torch_distributions(generator):
    logits = 5 * torch.randn(6, 4, generator=generator, dtype=torch.float64)
    mask = (torch.rand(6, 4, generator=generator) < 0.5).double()
    torch.testing.assert_close(mask_log_likelihood(logits, mask), Bernoulli(logits=logits).log_prob(mask))
    mean, log_variance = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    proposal, prior = Normal(mean, (0.5 * log_variance).exp()), Normal(torch.zeros(4).double(), 1.0)
    torch.testing.assert_close(gaussian_kl(mean, log_variance), kl_divergence(proposal, prior))
    z = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    ratio = (prior.log_prob(z) - proposal.log_prob(z)).sum(-1)
    torch.testing.assert_close(log_prior_ratio(z, mean, log_variance), ratio)


def test_elbo_is_its_parts_and_ignores_unweighted_attributes(generator):
    x, mask = random_rows(MIXED, 9, generator)
    output = torch.randn(9, MIXED.n_columns, generator=generator, dtype=torch.float64)
    logits = torch.randn(9, MIXED.n_attributes, generator=generator, dtype=torch.float64)
    mean, log_variance = torch.randn(2, 9, 10, generator=generator, dtype=torch.float64)
    log_scale = torch.zeros(MIXED.n_columns, dtype=torch.float64)
    arguments = (logits, x, mask, mean, log_variance, MIXED)
    bound = elbo(output, log_scale, *arguments, attribute_weight=mask)
    expected = (
        (mask * by_distributions(output, log_scale, x, MIXED)).sum(-1)
        + Bernoulli(logits=logits).log_prob(mask).sum(-1)
        - gaussian_kl(mean, log_variance).sum(-1)
    )
    torch.testing.assert_close(bound, expected)
    other = torch.where(MIXED.expand(mask) > 0, output, output + 1)
    assert torch.equal(elbo(other, log_scale, *arguments, attribute_weight=mask), bound)
    assert not torch.equal(elbo(other, log_scale, *arguments, attribute_weight=torch.ones_like(mask)), bound)


def test_gradients(generator):
    x, _ = random_rows(MIXED, 3, generator)
    output = torch.randn(3, MIXED.n_columns, generator=generator, dtype=torch.float64, requires_grad=True)
    log_scale = torch.randn(MIXED.n_columns, generator=generator, dtype=torch.float64, requires_grad=True)
    variance = torch.rand(3, MIXED.n_columns, generator=generator, dtype=torch.float64)
    function = lambda o, s: data_log_likelihood(o, s, x, MIXED, variance)  # noqa: E731
    assert torch.autograd.gradcheck(function, (output, log_scale))


def test_importance_weighted_bound_lies_between_the_elbo_and_the_evidence(generator):
    log_weight = torch.randn(50, 200, generator=generator, dtype=torch.float64)
    bounds = [importance_weighted_bound(log_weight[:k]).mean() for k in (1, 5, 50)]
    torch.testing.assert_close(bounds[0], log_weight[0].mean())
    assert bounds[0] < bounds[1] < bounds[2] < 0.5 + tolerances.STANDARD_ERRORS / math.sqrt(200)
