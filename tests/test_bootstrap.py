"""Networks trained on rows drawn with replacement."""

import numpy as np
import pytest
import torch

from tests.random_models import NUMERICAL_12
from vsae_fast import VSAEImputer, training
from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.vsae import VSAE
from vsae_fast.objective import HideAndScore
from vsae_fast.training import TrainingPlan, resampled, split, train


def test_rows_are_drawn_with_replacement():
    rows = torch.arange(1000, 3000)
    drawn = resampled(rows, torch.Generator().manual_seed(0))
    assert drawn.shape == rows.shape
    assert set(drawn.tolist()) <= set(rows.tolist())
    # A row is left out with probability (1 - 1/n)^n, nearly 1/e; the share's standard deviation is about 0.007.
    assert abs(1 - len(drawn.unique()) / len(rows) - np.exp(-1)) < 0.03
    assert resampled(rows[:0], torch.Generator()).shape == (0,)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_validation_rows_are_never_trained_on(backend, monkeypatch):
    x = torch.arange(200.0)[:, None].repeat(1, 12)
    seen = []
    make = training.make_trainer

    def spy(model, x_train, *arguments, **options):
        seen.append(x_train[:, 0])
        return make(model, x_train, *arguments, **options)

    monkeypatch.setattr(training, "make_trainer", spy)
    plan = TrainingPlan(epochs=1, bootstrap=True)
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        train(
            VSAE(NUMERICAL_12, NetworkConfig()), x, torch.ones(200, 12), HideAndScore(), plan, generator, None, backend
        )
        _, validation = split(200, plan.validation_fraction, torch.Generator().manual_seed(seed))
        assert len(validation) == 20
        assert len(seen[-1]) == 180
        assert not set(seen[-1].long().tolist()) & set(validation.tolist())
        assert len(seen[-1].unique()) < 140
    assert not torch.equal(*(rows.sort().values for rows in seen[:2]))


def test_draws_of_bootstrapped_networks_know_how_few_rows_there_were():
    """The mean of a lone column's imputations has the spread of a mean of as many rows, which one sample hides."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 4))
    X[rng.random(X.shape) < 0.3] = np.nan
    spreads = []
    for bootstrap in (False, True):
        imputer = VSAEImputer(
            preset="paper", n_models=8, epochs=50, learning_rate=3e-3, bootstrap=bootstrap, random_state=0
        ).fit(X)
        members, means = list(zip(imputer.models_, imputer.history_, strict=True)), []
        for model, history in members:
            imputer.models_, imputer.history_ = [model], [history]
            completed = imputer.transform(X)
            means.append([completed[np.isnan(X[:, j]), j].mean() for j in range(4)])
        spreads.append(np.std(means, axis=0).mean())
    assert spreads[1] > 1.3 * spreads[0]
