"""The kernel against the float64 reference on the same noise.

The interpreter multiplies in float32 and cannot multiply in bfloat16.
"""

import pytest
import torch

from tests.random_models import CATEGORICAL, MANY, MIXED, NUMERICAL_12, ONE_CATEGORY, ONE_NUMBER, random_case
from tests.test_importance_impute import assert_as_good_as_eager, errors
from tests.test_importance_impute import run as run_op
from tests.test_samples import (
    assert_a_large_effective_size_is_enough,
    assert_draws_of_the_reference,
    assert_stops_like_the_reference,
    several_proposals,
)
from vsae_fast.ops.importance_impute import OP, Imputation
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.tensor_core.importance_impute import pack_to_score, run


def emulate(case, *, visible_weight=1.0):
    """The kernel in the interpreter; unobserved cells hold NaN, which would show if they were read."""
    (mean, scale, x, mask, noise, decoders), keywords = case.arguments(torch.float32)
    context = keywords["context"]
    if mean.dim() == 2:
        mean, scale = mean.unsqueeze(1), scale.unsqueeze(1)
        context = None if context is None else context.unsqueeze(1)

    x = torch.where(decoders.layout.expand(mask) > 0, x, torch.nan)
    results = run(pack_to_score(decoders), mean, scale, x, mask, noise, context=context, visible_weight=visible_weight)
    return Imputation(*results, n_spent=None, draws=None)


@pytest.mark.parametrize("n_samples", [1, 31, 200])
@pytest.mark.parametrize(
    "layout", [NUMERICAL_12, CATEGORICAL, MIXED, ONE_NUMBER, ONE_CATEGORY], ids=["12", "5c", "mixed", "1", "1c"]
)
def test_matches_float64_reference(layout, n_samples):
    assert_as_good_as_eager(random_case(layout, 3, n_samples, seed=n_samples), emulate)


def test_odd_widths_context_and_visible_weight():
    case = random_case(MIXED, 3, 150, context=True, data_widths=(40, 24, 70), mask_widths=(9,))
    assert_as_good_as_eager(case, emulate, visible_weight=0.2)


def test_several_proposals():
    assert_as_good_as_eager(several_proposals(MIXED, 3, 300), emulate)


@pytest.mark.parametrize("observed", [0.0, 1.0])
def test_rows_all_observed_or_all_missing(observed):
    assert_as_good_as_eager(random_case(MIXED, 3, 100, observed=observed), emulate)


def test_more_numbers_than_a_block():
    assert_as_good_as_eager(random_case(MANY, 2, 70, data_widths=(128, 128)), emulate)


@pytest.fixture
def kernel(monkeypatch):
    """The op with backend="triton" for tensors on the CPU."""
    monkeypatch.setattr("vsae_fast.tensor_core.importance_impute.check_device", lambda device: None)
    chosen = OP.select
    monkeypatch.setattr(OP, "select", lambda backend, tensor: OP.on_gpu.get(backend) or chosen(backend, tensor))
    return lambda case, **options: run_op(case, torch.float32, "triton", **options)


@pytest.mark.parametrize(
    "case", [several_proposals(MIXED, 5, 300), random_case(CATEGORICAL, 2, 50, context=True)], ids=["mixed", "levels"]
)
def test_draws_are_those_of_the_reference(case, kernel):
    assert_draws_of_the_reference(case, kernel)


def test_sampling_stops_at_the_requested_precision(kernel):
    assert_stops_like_the_reference(kernel, 1, n_samples=240, tolerance=0.15)


def test_a_large_effective_size_is_enough(kernel):
    assert_a_large_effective_size_is_enough(kernel, n_rows=8)


@pytest.mark.parametrize("tolerance", [1e-9, 0.3])
@pytest.mark.parametrize("case", [several_proposals(MIXED, 2, 250), random_case(CATEGORICAL, 3, 130)], ids=["m", "5c"])
def test_what_stops_is_the_reference(case, tolerance, kernel):
    truth = run_op(case, torch.float64, "reference", tolerance=tolerance, visible_weight=0.3)
    result = kernel(case, tolerance=tolerance, visible_weight=0.3)
    assert torch.equal(result.n_spent, truth.n_spent)
    assert max(errors(result, truth).values()) <= 1e-4


def test_wide_numerical_attributes_are_scored_in_the_hidden_space():
    layout = AttributeLayout(("numerical", "categorical", "numerical"), (90, 3, 1))
    case = random_case(layout, 12, 70, context=True)
    assert pack_to_score(case.arguments(torch.float32)[0][-1]).constants["SCORED"] == 64 + 1
    assert_as_good_as_eager(case, emulate, visible_weight=0.4)


def test_no_rows():
    case = random_case(MIXED, 1, 10)
    for name in ("mean", "scale", "x", "mask"):
        setattr(case, name, getattr(case, name)[:0])
    assert emulate(case).imputed.shape == (0, MIXED.n_columns)
