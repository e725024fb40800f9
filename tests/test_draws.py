"""VSAEImputer.sample: several completions whose spread is that of what is not known."""

import numpy as np
import pandas as pd
import pytest
import torch

from bench.accuracy.scores import coverage
from tests.random_models import CATEGORICAL, NUMERICAL_12, random_rows
from vsae_fast import VSAEImputer
from vsae_fast.calibration import ENCODED_CELLS, FEWEST_ROWS, SpreadMoments, spread_factors, spread_moments
from vsae_fast.models.vsae import VSAE
from vsae_fast.ops.layout import AttributeLayout


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    a = rng.normal(size=400)
    level = np.where(a + 0.3 * rng.normal(size=400) > 0, "high", "low").astype(object)
    truth = pd.DataFrame({"a": a, "b": 2 * a + rng.normal(size=400), "level": level, "n": rng.poisson(4, 400)})
    truth["n"] = truth["n"].astype("Int64")
    return truth, truth.mask(rng.random(truth.shape) < 0.3)


@pytest.fixture(scope="module")
def imputer(table):
    return VSAEImputer(epochs=150, n_models=1, random_state=0).fit(table[1])


def test_tables_are_complete_and_keep_what_was_observed(table, imputer):
    incomplete = table[1]
    before = incomplete.copy()
    draws = imputer.sample(incomplete, 5, random_state=1)
    pd.testing.assert_frame_equal(incomplete, before)
    assert len(draws) == 5
    seen = incomplete.notna().to_numpy()
    for draw in draws:
        assert (draw.dtypes == incomplete.dtypes).all()
        assert not draw.isna().any(axis=None)
        assert (draw.to_numpy(object)[seen] == incomplete.to_numpy(object)[seen]).all()
        assert set(draw["level"]) == {"high", "low"}
        assert draw["n"].between(incomplete["n"].min(), incomplete["n"].max()).all()
    assert not draws[0].equals(draws[1])


def test_same_state_same_draws_whatever_the_other_rows(table, imputer):
    incomplete = table[1]
    whole = imputer.sample(incomplete, 3, random_state=1)
    for a, b in zip(whole, imputer.sample(incomplete, 3, random_state=1), strict=True):
        pd.testing.assert_frame_equal(a, b)
    for a, b in zip(whole, imputer.sample(incomplete[:50], 3, random_state=1), strict=True):
        pd.testing.assert_frame_equal(a[:50], b)
    assert not imputer.sample(incomplete, 1, random_state=2)[0].equals(whole[0])
    pd.testing.assert_frame_equal(imputer.sample(incomplete, 1)[0], imputer.sample(incomplete, 1)[0])


def test_intervals_cover_and_means_agree_with_transform(table, imputer):
    truth, incomplete = table
    draws = imputer.sample(incomplete, 50, random_state=0)
    hidden = incomplete.isna().to_numpy()
    # One scale per column serves rows that know `a` and rows that know nothing: in this table the former get too much.
    numbers = truth.assign(level="", n="")
    assert 0.85 < coverage(numbers, draws.interval(0.9), ~hidden) < 0.98
    expected = imputer.transform(incomplete)
    for j, name in enumerate(("a", "b")):
        mean = np.mean([draw[name].to_numpy()[hidden[:, j]] for draw in draws], axis=0)
        assert np.sqrt(((mean - expected[name].to_numpy()[hidden[:, j]]) ** 2).mean()) < 0.2 * truth[name].std()


def test_levels_are_drawn_with_their_probabilities(table, imputer):
    incomplete = table[1]
    draws = imputer.sample(incomplete, 50, random_state=0)
    for low, high, least, largest in ((-0.1, 0.1, 0.2, 0.8), (0.8, 9.0, 0.9, 1.0)):
        where = (incomplete["level"].isna() & incomplete["a"].between(low, high)).to_numpy()
        assert least <= np.mean([(draw["level"] == "high").to_numpy()[where] for draw in draws]) <= largest


@pytest.mark.parametrize(("error", "expected"), [(4.0, 2.0), (1.0, 1.0), (0.25, 0.5), (0.0, 0.3), (100.0, 2.0)])
def test_spread_factors(error, expected):
    many = SpreadMoments([error * 1e5, 7.0], [1e5, 1.0], [1e5, 9.0])
    factors = spread_factors([many, many], torch.tensor([True, False]))
    assert factors.tolist() == pytest.approx([expected, 1.0], rel=1e-2)


def test_few_cells_change_the_spread_little():
    few = SpreadMoments([4.0], [1.0], [1.0])
    assert spread_factors([few], torch.tensor([True])).item() == pytest.approx((14 / 11) ** 0.5)
    none = SpreadMoments([0.0], [0.0], [0.0])
    assert spread_factors([none], torch.tensor([True])).item() == 1.0
    assert spread_factors([], torch.tensor([True])).item() == 1.0


def test_moments_of_a_known_model():
    """Errors and draws of one model on its own cells agree where the model is right: factors near 1."""
    torch.manual_seed(0)
    model = VSAE(NUMERICAL_12).eval()
    x, _ = model.generate(400, generator=torch.Generator().manual_seed(1))
    moments = spread_moments(model, x, torch.ones(400, 12), 1.0, 3)
    assert moments == spread_moments(model, x, torch.ones(400, 12), 1.0, 3)
    assert sum(moments.n_cells) == pytest.approx(0.1 * 16 * x.numel(), rel=0.05)
    factors = spread_factors([moments], torch.ones(12, dtype=torch.bool))
    assert ((factors > 0.8) & (factors < 1.25)).all()


def test_levels_have_no_width_to_measure(monkeypatch, generator):
    monkeypatch.setattr("vsae_fast.calibration.impute_hidden_cells", pytest.fail)
    x, mask = random_rows(CATEGORICAL, 9, generator)
    moments = spread_moments(VSAE(CATEGORICAL).eval(), x.float(), mask.float(), 1.0, 3)
    assert moments == SpreadMoments(*([0.0] * CATEGORICAL.n_columns for _ in range(3)))


@pytest.mark.parametrize(("n_levels", "n_rows"), [(799, ENCODED_CELLS // 800), (4000, FEWEST_ROWS)])
def test_fewer_rows_of_wide_tables(n_levels, n_rows, monkeypatch, generator):
    """Of a number beside a column of many levels."""
    taken = []

    def none(model, x, mask, *_, **__):
        taken.append((len(x), len(mask)))
        return iter(())

    monkeypatch.setattr("vsae_fast.calibration.impute_hidden_cells", none)
    layout = AttributeLayout(("numerical", "categorical"), (1, n_levels))
    x, mask = random_rows(layout, 300, generator)
    moments = spread_moments(VSAE(layout).eval(), x.float(), mask.float(), 1.0, 3)
    assert taken == [(n_rows, n_rows)]
    assert moments.n_cells == [0.0] * layout.n_columns


@pytest.mark.parametrize("n_imputations", [0, -1, 2.5, True, "5"])
def test_bad_numbers(n_imputations, table, imputer):
    with pytest.raises(ValueError, match="n_imputations must be an integer of at least 1"):
        imputer.sample(table[1], n_imputations)


def test_numbers_stay_inside_their_observed_range(table, imputer):
    incomplete = table[1]
    completed = imputer.transform(incomplete)
    for draw in (completed, *imputer.sample(incomplete, 20, random_state=0)):
        for name in ("a", "b", "n"):
            assert draw[name].min() >= incomplete[name].min()
            assert draw[name].max() <= incomplete[name].max()
