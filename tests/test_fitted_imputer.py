"""The prepared networks of an estimator: kept while nothing has changed, made anew where anything has."""

import copy
import gc
import pickle

import numpy as np
import pandas as pd
import pytest
import torch

from vsae_fast import VSAEImputer
from vsae_fast.fitted_imputer import _kept, fitted_imputer


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    a = rng.normal(size=120)
    table = pd.DataFrame({"a": a, "b": -a, "c": np.where(a > 0, "x", "y")})
    return table.mask(rng.random(table.shape) < 0.3)


@pytest.fixture
def imputer(table):
    return VSAEImputer(epochs=2, n_models=2, random_state=0).fit(table)


def test_networks_are_prepared_once(imputer, table):
    first = fitted_imputer(imputer)
    imputer.transform(table)
    imputer.sample(table, 2)[1]
    assert fitted_imputer(imputer) is first


@pytest.mark.parametrize(
    "changed", [{"n_samples": 7}, {"tolerance": 0.5}, {"sampler": "iid"}, {"backend": "reference"}, {"n_jobs": 1}]
)
def test_a_changed_parameter_is_seen(imputer, table, changed):
    before = fitted_imputer(imputer)
    imputer.set_params(**changed)
    assert fitted_imputer(imputer) is not before
    fresh = pickle.loads(pickle.dumps(imputer))
    pd.testing.assert_frame_equal(imputer.transform(table), fresh.transform(table))


def test_a_wrong_parameter_is_refused_after_a_right_one(imputer, table):
    imputer.transform(table)
    with pytest.raises(ValueError, match="n_samples must be an integer of at least 1"):
        imputer.set_params(n_samples=0).transform(table)


def test_another_fit_and_a_longer_one_are_seen(imputer, table):
    before = imputer.transform(table)
    imputer.set_params(warm_start=True, epochs=6).fit(table)
    longer = imputer.transform(table)
    assert not longer.equals(before)
    imputer.set_params(warm_start=False, random_state=1).fit(table)
    again = VSAEImputer(epochs=6, n_models=2, random_state=1).fit(table)
    pd.testing.assert_frame_equal(imputer.transform(table), again.transform(table))


@pytest.mark.parametrize("how", ["in place", "data", "parameter"])
def test_written_weights_are_seen(imputer, table, how):
    before = imputer.transform(table)
    layer = next(
        m for m in imputer.models_[0].decoders.modules() if isinstance(getattr(m, "bias", None), torch.nn.Parameter)
    )
    with torch.no_grad():
        if how == "in place":
            layer.bias.add_(1.0)
        elif how == "data":
            layer.bias.data = layer.bias.data + 1.0
        else:
            layer.bias = torch.nn.Parameter(layer.bias + 1.0)
    after = imputer.transform(table)
    assert not after.equals(before)
    pd.testing.assert_frame_equal(after, pickle.loads(pickle.dumps(imputer)).transform(table))


def test_copies_have_their_own_and_nothing_outlives_the_estimator(imputer, table):
    imputer.transform(table)
    twin = copy.deepcopy(imputer)
    assert fitted_imputer(twin) is not fitted_imputer(imputer)
    gc.collect()  # estimators of other tests that nothing but a cycle holds
    kept = len(_kept)
    del twin
    gc.collect()
    assert len(_kept) == kept - 1
