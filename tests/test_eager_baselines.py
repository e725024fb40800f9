"""The eager twins that training steps are measured against compute what they are twins of."""

import pytest
import torch
from torch import nn

from bench.baseline_step import CASES
from bench.eager_training import EagerLevelsVSAE
from bench.training_step import CASES as STEPS
from bench.training_step import LAYOUT, LEVELS
from tests.random_models import random_rows
from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.encoders import GroupedEncoder
from vsae_fast.models.vsae import VSAE
from vsae_fast.ops.elbo import data_log_likelihood


class FixedDraws:
    """No noise, and the same subset of attributes each time."""

    def normal(self, shape, like):
        return torch.zeros(shape, dtype=like.dtype)

    def uniform(self, shape, like):
        return torch.linspace(0, 1, shape[-1], dtype=like.dtype).expand(shape)


def linears(module):
    """Weight (n_out, n_in) and bias of each linear map in order, those of experts one attribute after the other."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            yield part.weight.data, part.bias.data
        elif isinstance(part, GroupedEncoder):
            for attribute in range(len(part.biases[0])):
                for weight, bias in zip(part.weights, part.biases, strict=True):
                    yield weight.data[attribute].T, bias.data[attribute]


@pytest.mark.parametrize("name", CASES)
def test_the_loss_is_that_of_the_model(name, generator, monkeypatch):
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    monkeypatch.setattr(torch, "rand_like", lambda t: FixedDraws().uniform(t.shape, t))
    case, config = CASES[name], NetworkConfig(min_scale=1e-12)
    model, twin = case.model(LAYOUT, config).double(), case.eager(LAYOUT.n_attributes, config).double()
    for own, given in zip(linears(twin), linears(model), strict=True):
        for to, from_ in zip(own, given, strict=True):
            to.copy_(from_)
    x = torch.randn(64, LAYOUT.n_columns, generator=generator, dtype=torch.float64)
    mask = (torch.rand(64, LAYOUT.n_attributes, generator=generator) < 0.5).double()
    if name.startswith("MVAE"):
        mask = torch.ones_like(mask)  # the twin normalises over all rows, the model over those that have the attribute
    truth = case.objective.loss(model, x, mask, 0, FixedDraws())
    torch.testing.assert_close(twin.loss(x, mask), truth)


def test_the_likelihood_of_levels_is_that_of_the_model(generator):
    (network,) = (case["network"] for case in STEPS.values() if case.get("layout") is LEVELS)
    twin = EagerLevelsVSAE(LEVELS.n_attributes, network, LEVELS.widths[0])
    x, mask = random_rows(LEVELS, 7, generator)
    output = torch.randn(3, 7, LEVELS.n_columns, generator=generator, dtype=torch.float64)
    ours = data_log_likelihood(output, torch.zeros(LEVELS.n_columns).double(), x, LEVELS) * mask
    torch.testing.assert_close((twin.expand(mask) * twin.log_likelihood(output, x)).sum(-1), ours.sum(-1))
    sizes = [sum(p.numel() for p in model.parameters()) for model in (twin, VSAE(LEVELS, network))]
    assert sizes[0] == sizes[1]
