"""The proposal networks against the float64 reference."""

import pytest
import torch

from tests import tolerances
from tests.random_models import random_rows
from tests.test_propose import AUTO, LAYOUTS, trained_like
from vsae_fast.models.config import NetworkConfig
from vsae_fast.ops.propose import propose as op
from vsae_fast.tensor_core.propose import propose


def check(layout, config, n_rows, n_fills, generator, observed=0.5):
    model = trained_like(layout, config, generator)
    encoders = model.folded_encoders(torch.float32)
    encoders64 = encoders.to(torch.float64, torch.device("cpu"))
    x, mask = (t.float() for t in random_rows(layout, n_rows, generator, observed))
    fill = torch.randn(n_fills, layout.n_columns, generator=generator) if n_fills else None
    truth = op(x.double(), mask.double(), encoders64, fill=None if fill is None else fill.double())
    eager = op(x, mask, encoders, fill=fill, backend="reference")
    x = torch.where(layout.expand(mask) > 0, x, torch.nan)
    for name, ours in zip(("mean", "scale", "context"), propose(x, mask, encoders, fill), strict=True):
        exact = getattr(truth, name)
        if exact is None:
            assert ours.shape[-1] == 0
            continue
        error, allowed = ((result - exact).norm() / exact.norm() for result in (ours, getattr(eager, name)))
        assert error <= tolerances.TIMES_EAGER * max(allowed, tolerances.EAGER_FLOOR), name


@pytest.mark.parametrize("n_rows", [1, 17, 70])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("config", "n_fills"), [(NetworkConfig(), 0), (NetworkConfig(), 3), (AUTO, 0)])
def test_matches_float64_reference(layout, config, n_fills, n_rows, generator):
    check(LAYOUTS[layout], config, n_rows, n_fills, generator)


@pytest.mark.parametrize("observed", [0.0, 1.0])
def test_rows_all_observed_or_all_missing(observed, generator):
    check(LAYOUTS["mixed"], AUTO, 5, 0, generator, observed)


def test_log_variances_are_clamped(generator):
    model = trained_like(LAYOUTS["mixed"], AUTO, generator)
    with torch.no_grad():
        for linear in [model.collective.head.bias, *(encoder.biases[-1] for encoder in model.attributive.encoders)]:
            linear += 100.0
    x, mask = (t.float() for t in random_rows(LAYOUTS["mixed"], 5, generator))
    _, scale, _ = propose(x, mask, model.folded_encoders(torch.float32), None)
    assert (scale == scale.max()).all()
    assert scale.max().item() == pytest.approx(torch.tensor(4.0).exp().item())


def test_no_rows(generator):
    layout = LAYOUTS["mixed"]
    encoders = trained_like(layout, AUTO, generator).folded_encoders(torch.float32)
    mean, scale, context = propose(torch.empty(0, layout.n_columns), torch.empty(0, 5), encoders, None)
    assert mean.shape == scale.shape == (0, 1, 10)
    assert context.shape == (0, 1, 128)
