"""A linear-Gaussian model has a conditional mean and an evidence in closed form."""

import math

import pytest
import torch

from tests import tolerances
from vsae_fast.ops.folded_decoders import DenseLayer, FoldedDecoders
from vsae_fast.ops.importance_impute import importance_impute
from vsae_fast.ops.layout import AttributeLayout

N_LATENT, N_COLUMNS, N_ROWS = 3, 6, 8
MASK_LOGIT = 0.4


@pytest.fixture
def model(generator):
    """x = W z + b + noise with a mask that does not depend on z."""

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    loading = randn(N_COLUMNS, N_LATENT)
    offset, log_scale = randn(N_COLUMNS), 0.3 * randn(N_COLUMNS)
    hidden_weight = torch.cat([torch.eye(N_LATENT).double(), torch.zeros(N_LATENT, N_COLUMNS).double()], 1)
    decoders = FoldedDecoders(
        mask_layers=(
            DenseLayer(
                torch.zeros(N_COLUMNS, N_LATENT).double(),
                torch.full((N_COLUMNS,), MASK_LOGIT, dtype=torch.float64),
                False,
            ),
        ),
        data_layers=(DenseLayer(hidden_weight, torch.zeros(N_LATENT).double(), False),),
        output=DenseLayer(loading, offset, False),
        log_scale=log_scale,
        layout=AttributeLayout(("numerical",) * N_COLUMNS, (1,) * N_COLUMNS),
    )
    z = randn(N_ROWS, N_LATENT)
    x = z @ loading.T + offset + log_scale.exp() * randn(N_ROWS, N_COLUMNS)
    mask = (torch.rand(N_ROWS, N_COLUMNS, generator=generator) < 0.5).double()
    mask[0], mask[1] = 1, 0
    return decoders, x, mask


def closed_forms(decoders, x, mask):
    """Conditional mean of x_u, log p(x_o, m), and the posterior of z (diagonal only if it is)."""
    loading, offset, variance = decoders.output.weight, decoders.output.bias, (2 * decoders.log_scale).exp()
    means, evidences, posteriors = [], [], []
    for row, observed in zip(x, mask > 0, strict=True):
        w, s = loading[observed], variance[observed]
        covariance = w @ w.T + torch.diag(s)
        residual = row[observed] - offset[observed]
        posterior_covariance = torch.linalg.inv(torch.eye(N_LATENT).double() + w.T @ torch.diag(1 / s) @ w)
        posterior_mean = posterior_covariance @ w.T @ (residual / s)
        means.append(torch.where(observed, row, loading @ posterior_mean + offset))
        n = int(observed.sum())
        evidence = -0.5 * (
            residual @ torch.linalg.solve(covariance, residual) + torch.logdet(covariance) + n * math.log(2 * math.pi)
        )
        p = 1 / (1 + math.exp(-MASK_LOGIT))
        evidences.append(evidence + n * math.log(p) + (N_COLUMNS - n) * math.log(1 - p))
        posteriors.append((posterior_mean, posterior_covariance))
    return torch.stack(means), torch.stack(evidences), posteriors


def test_importance_sampling_from_the_prior_converges(model, generator):
    decoders, x, mask = model
    expected, evidence, _ = closed_forms(decoders, x, mask)
    n_samples = 400_000
    noise = torch.randn(n_samples, N_LATENT, generator=generator, dtype=torch.float64)
    zeros, ones = torch.zeros(N_ROWS, N_LATENT).double(), torch.ones(N_ROWS, N_LATENT).double()
    result = importance_impute(zeros, ones, x, mask, noise, decoders, backend="reference")
    standard_error = (1 / result.effective_size).sqrt()
    assert ((result.log_evidence - evidence).abs() <= tolerances.STANDARD_ERRORS * standard_error).all()
    spread = decoders.output.weight.norm(dim=1)  # prior standard deviation of the mean: an upper bound
    error = (result.imputed - expected).abs()
    assert (error <= tolerances.STANDARD_ERRORS * standard_error.unsqueeze(1) * spread).all()


def test_exact_posterior_gives_exact_evidence_and_mean(model, generator):
    """With orthogonal loadings the posterior is diagonal: proposed exactly, every weight is the same."""
    decoders, x, mask = model
    mask = torch.ones_like(mask)
    mask[:, 4:] = 0
    decoders.log_scale[:] = -0.2
    decoders.output.weight[:4] = torch.linalg.qr(decoders.output.weight[:4])[0]
    expected, evidence, posteriors = closed_forms(decoders, x, mask)
    mean = torch.stack([m for m, _ in posteriors])
    scale = torch.stack([c.diagonal().sqrt() for _, c in posteriors])
    half = torch.randn(50, N_LATENT, generator=generator, dtype=torch.float64)
    noise = torch.cat([half, -half])  # antithetic: a linear mean comes out exact
    result = importance_impute(mean, scale, x, mask, noise, decoders, backend="reference")
    torch.testing.assert_close(result.imputed, expected, rtol=0, atol=tolerances.EXACT)
    torch.testing.assert_close(result.log_evidence, evidence, rtol=0, atol=tolerances.EXACT)
    torch.testing.assert_close(result.effective_size, torch.full((N_ROWS,), 100.0).double())
    kernel = importance_impute(
        *(t.float() for t in (mean, scale, x, mask, noise)), decoders.to(torch.float32, torch.device("cpu"))
    )
    torch.testing.assert_close(kernel.log_evidence, evidence, rtol=tolerances.LOG_EVIDENCE_RELATIVE, atol=1e-5)
