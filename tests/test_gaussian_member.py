"""The Gaussian member of auto's ensembles: its values, its share, and what it is good for."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from vsae_fast import VSAEImputer
from vsae_fast.closed_form_candidates import COMPONENTS, MIXTURES, PLAIN, Candidate
from vsae_fast.ensemble_validation import PRIOR_CELLS, TYPICAL_SHARE, Cells, _choose, _share
from vsae_fast.fitted_imputer import fitted_imputer
from vsae_fast.gaussian_member import GaussianMember, number_columns
from vsae_fast.gaussian_mixture import GaussianMixture
from vsae_fast.missingness import ampute
from vsae_fast.normal_scores import ScoreCurves, fit
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.presets import build_preset

LAYOUT = AttributeLayout(("numerical", "categorical", "numerical"), (1, 3, 1))
SHORT = {"epochs": 15, "n_models": 2, "random_state": 0}


def member(number_share=0.4, level_share=0.25):
    factor = np.random.default_rng(0).normal(size=(5, 5))
    gaussian = (GaussianMixture(np.ones(1), np.zeros((1, 5)), factor @ factor.T / 5 + 0.2 * np.eye(5)),)
    centre, scale = np.array([0, 0.3, 0.3, 0.4, 0]), np.array([1, 0.45, 0.45, 0.5, 1])
    return GaussianMember(LAYOUT, number_share, level_share, gaussian, centre, scale)


def with_curves(**shares):
    knots, scores = np.array([[-2.0, 0.0, 3.0], [-1.0, 0.5, 1.0]]), np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 3.0]])
    return replace(member(**shares), curves=ScoreCurves(number_columns(LAYOUT), knots, scores))


def with_components(**shares):
    rng = np.random.default_rng(2)
    own = tuple(
        GaussianMixture(rng.dirichlet(np.ones(3)), rng.normal(size=(3, 5)), member().mixtures[0].covariance)
        for _ in range(2)
    )
    return replace(member(**shares), mixtures=own)


def rows(n=200, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5)).astype(np.float32)
    x[:, 1:4] = np.eye(3)[rng.integers(3, size=n)]
    mask = (rng.random((n, 3)) < 0.5).astype(np.float32)
    networks = x + rng.normal(size=x.shape).astype(np.float32) * 0.1
    networks[:, 1:4] = rng.dirichlet([1, 1, 1], n)
    observed = np.repeat(mask > 0, LAYOUT.widths, axis=1)
    return torch.from_numpy(x), torch.from_numpy(mask), torch.from_numpy(np.where(observed, x, networks)), observed


def test_probabilities_are_probabilities_and_observed_cells_stay():
    x, _, _, observed = rows()
    x[~torch.from_numpy(observed)] = torch.nan
    own = member().expected(x.numpy(), observed)
    assert np.isfinite(own).all()
    np.testing.assert_array_equal(own[observed], x.numpy()[observed])
    levels = own[~observed[:, 1], 1:4]
    assert (levels >= 0).all()
    np.testing.assert_allclose(levels.sum(1), 1, rtol=1e-6)
    assert (levels == 0).any()  # some expected values were outside


def test_what_it_prints():
    told = "GaussianMember(5 encoded columns; share of the average: 0.40 in numbers, 0.25 in levels)"
    assert repr(member()) == told
    assert "5 encoded columns, normal scores; share" in repr(with_curves())
    assert "5 encoded columns, 2 mixtures of 3 components; share" in repr(with_components())


def test_several_mixtures_are_averaged():
    x, _, _, observed = rows()
    both = with_components()
    standardised = (x.numpy().astype(float) - both.centre) / both.scale
    apart = [mixture.complete(standardised, observed) for mixture in both.mixtures]
    np.testing.assert_allclose(both.completed_scores(standardised, observed), np.mean(apart, axis=0), rtol=1e-12)
    found = both.expected(x.numpy(), observed)
    numbers, hidden = [0, 4], ~observed[:, [0, 4]]
    np.testing.assert_allclose(found[:, numbers][hidden], np.mean(apart, axis=0)[:, numbers][hidden], rtol=1e-6)
    assert not np.allclose(found, member().expected(x.numpy(), observed))


def test_curves_lead_to_the_normal_distribution_and_back():
    x, mask, networks, observed = rows()
    own = with_curves(number_share=1.0, level_share=1.0)
    plain = replace(own, curves=None)
    standardised = (x.numpy().astype(float) - own.centre) / own.scale
    scores = own.curves.scores_of(standardised)
    np.testing.assert_array_equal(scores[:, 1:4], standardised[:, 1:4])
    completed = own.mixtures[0].complete(scores, observed)
    by_hand = own.curves.numbers_of(completed)[:, [0, 4]]
    hidden = ~observed[:, [0, 4]]
    found = own.expected(x.numpy(), observed)
    np.testing.assert_allclose(found[:, [0, 4]][hidden], by_hand[hidden], rtol=1e-6)
    np.testing.assert_array_equal(found[observed], x.numpy()[observed])
    assert not np.allclose(found, plain.expected(x.numpy(), observed))
    np.testing.assert_allclose(own.blend(x, mask, networks), found, atol=1e-6)


def test_shares_and_rows():
    x, mask, networks, observed = rows()
    own = member().expected(x.numpy(), observed)
    assert torch.equal(member(0.0, 0.0).blend(x, mask, networks), networks)
    np.testing.assert_allclose(member(1.0, 1.0).blend(x, mask, networks), own, atol=1e-6)
    half = member(0.5, 0.25).blend(x, mask, networks).numpy()
    share = np.array([0.5, 0.25, 0.25, 0.25, 0.5])
    np.testing.assert_allclose(half, (1 - share) * networks.numpy() + share * own, atol=1e-6)
    for i in (0, 7, 199):
        one = member(0.5, 0.25).blend(x[i : i + 1], mask[i : i + 1], networks[i : i + 1])
        np.testing.assert_array_equal(one[0], half[i])


def test_draws_are_those_of_the_average():
    x, mask, networks, observed = rows(4000)
    drawn = networks.clone()
    drawn[:, 1:4] = torch.from_numpy(np.where(observed[:, 1:4], x[:, 1:4], [1.0, 0.0, 0.0])).float()
    own = member().expected(x.numpy(), observed)
    centre, draws = member().blend_draws(x, mask, networks, drawn, 5, torch.arange(len(x)))
    torch.testing.assert_close(centre, member().blend(x, mask, networks))
    numbers = [0, 4]
    torch.testing.assert_close((draws - drawn)[:, numbers], (centre - networks)[:, numbers])
    hidden = ~observed[:, 1]
    assert set(draws[:, 1:4].unique().tolist()) == {0.0, 1.0}
    assert (draws[:, 1:4].sum(1) == 1).all()
    np.testing.assert_array_equal(draws[~hidden, 1:4], x[~hidden, 1:4])
    expected = 0.75 * np.array([1, 0, 0]) + 0.25 * own[hidden, 1:4].mean(0)
    np.testing.assert_allclose(draws[hidden, 1:4].mean(0), expected, atol=0.02)
    later = member().blend_draws(x[9:], mask[9:], networks[9:], drawn[9:], 5, torch.arange(9, len(x)))[1]
    torch.testing.assert_close(later, draws[9:], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("product", "square", "n", "share"),
    [
        (0.5, 1.0, 1e9, 0.5),  # many cells: least squares
        (2.0, 1.0, 1e9, 1.0),
        (-1.0, 1.0, 1e9, 0.0),
        (-1.0, 1.0, 1.0, 0.0),  # never where the cells see a loss
        (0.05, 1.0, PRIOR_CELLS, 0.1),
        (0.5, 1.0, PRIOR_CELLS, (0.5 + TYPICAL_SHARE) / 2),
        (0.0, 0.0, 0.0, 0.0),
    ],
)
def test_share(product, square, n, share):
    found = _share(np.array([product, square, n]))
    assert found.share == pytest.approx(share, abs=1e-6)
    assert found.gain == pytest.approx(2 * share * product - share**2 * square, abs=1e-6)


class Known:
    """Member that gives back the truth, off by as much as ``error``."""

    def __init__(self, error):
        self.error = error

    def expected(self, x, observed):
        return x + np.float32(self.error)


@pytest.mark.parametrize(("plain", "scores", "best"), [(0.3, 0.3, 0), (0.3, 0.29, 0), (0.3, 0.1, 1), (1.5, 0.5, 1)])
def test_scores_must_gain_clearly_more(plain, scores, best):
    known = np.random.default_rng(0).normal(size=(4000, 5)).astype(np.float32)
    hidden = np.ones(known.shape, bool)
    cells = [Cells(known, known + 1, hidden, ~hidden)]  # the networks are off by 1
    found = [Candidate(Known(plain), 1.0, PLAIN, None), Candidate(Known(scores), 1.0, 1.0, None)]
    choice = _choose(found, LAYOUT, cells)
    assert choice.candidate is found[best]
    error = found[best].member.error
    assert choice.shares[0] == pytest.approx(min(1, 1 / (1 - error)), rel=0.02)


def linear_table(n_rows=300, seed=0):
    """Five columns of a joint normal distribution, so that the best imputation is known."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(5, 2))
    truth = rng.normal(size=(n_rows, 2)) @ factor.T + 0.5 * rng.normal(size=(n_rows, 5))
    return truth, ampute(truth, "MCAR", 0.3, random_state=seed)[0]


def test_a_linear_table_is_imputed_nearly_as_well_as_can_be():
    truth, incomplete = linear_table()
    hidden = np.isnan(incomplete)
    imputer = VSAEImputer(random_state=0, n_models=1).fit(incomplete)
    assert imputer.closed_form_.number_share > 0.3

    def error(completed):
        return np.sqrt(((completed - truth)[hidden] ** 2).mean())

    factor = np.random.default_rng(0).normal(size=(5, 2))
    best = GaussianMixture(np.ones(1), np.zeros((1, 5)), factor @ factor.T + 0.25 * np.eye(5)).complete(
        incomplete, ~hidden
    )
    ours = error(imputer.transform(incomplete))
    imputer.closed_form_ = None
    assert ours < 1.06 * error(best)
    assert ours < error(imputer.transform(incomplete))


def test_a_table_of_skewed_columns_is_imputed_by_scores():
    truth, incomplete = linear_table()
    hidden = np.isnan(incomplete)
    truth, incomplete = np.exp(1.5 * truth), np.exp(1.5 * incomplete)
    imputer = VSAEImputer(random_state=0, n_models=1).fit(incomplete)
    assert imputer.closed_form_.curves is not None

    def error():
        return (np.abs(imputer.transform(incomplete) - truth) / truth.std(0))[hidden].mean()

    with_scores = error()
    imputer.closed_form_ = None
    assert with_scores < 0.95 * error()


def test_a_table_of_groups_gets_components():
    """Three groups on a line: columns of levels alone would hide the middle one."""
    rng = np.random.default_rng(0)
    group = rng.integers(3, size=600)
    numbers = 3.0 * group[:, None] * [1, -1, 1, 0.5] + rng.normal(size=(600, 4))
    truth = pd.DataFrame(numbers, columns=list("abcd")).assign(group=np.array(["x", "y", "z"])[group])
    hidden = rng.random(truth.shape) < 0.4
    imputer = VSAEImputer(random_state=0, n_models=1, epochs=10).fit(truth.mask(hidden))
    (n_components,) = {len(mixture.weight) for mixture in imputer.closed_form_.mixtures}
    assert n_components in COMPONENTS
    assert len(imputer.closed_form_.mixtures) == MIXTURES
    own = replace(imputer.closed_form_, number_share=1.0, level_share=1.0)
    wrong = []
    for form in (own, replace(own, mixtures=(pooled(own.mixtures[0]),))):
        imputer.closed_form_ = form
        completed = imputer.transform(truth.mask(hidden))
        wrong.append((completed["group"] != truth["group"])[hidden[:, 4]].mean())
    assert wrong[0] < 0.6 * wrong[1]


def pooled(mixture):
    """The normal distribution that has a mixture's moments."""
    mean = mixture.weight @ mixture.mean
    apart = mixture.mean - mean
    covariance = mixture.covariance + (mixture.weight[:, None] * apart).T @ apart
    return GaussianMixture(np.ones(1), mean[None], covariance)


def test_a_table_without_a_linear_relation_gives_a_normal_distribution_no_share(monkeypatch):
    rng = np.random.default_rng(0)
    a = rng.uniform(-1, 1, 900)
    table = np.column_stack([a, np.cos(6 * a)])
    table[rng.random(900) < 0.3, 1] = np.nan
    monkeypatch.setattr("vsae_fast.closed_form_candidates.COMPONENTS", ())
    linear = VSAEImputer(random_state=0, n_models=1, epochs=60).fit(table).closed_form_
    assert linear is None or linear.number_share < 0.1


def test_who_has_one():
    numbers = AttributeLayout(("numerical",) * 64, (1,) * 64)
    assert build_preset("auto", numbers, 500, 20_000).closed_form == "gaussian"
    assert build_preset("auto", numbers, 5000, 50_000).closed_form is None
    assert build_preset("auto", AttributeLayout(("numerical",) * 65, (1,) * 65), 500, 20_000).closed_form is None
    assert build_preset("paper", numbers, 500, 20_000).closed_form is None
    _, incomplete = linear_table(60)
    assert VSAEImputer(**SHORT).fit(incomplete).closed_form_ is None  # too few rows for validation
    assert VSAEImputer(preset="paper", epochs=2, random_state=0).fit(incomplete).closed_form_ is None


def test_a_single_normal_distribution_of_older_files():
    x, _, _, observed = rows()
    own = member()
    arrays = own.arrays
    old = {"mean": arrays["mean"][0, 0], "covariance": arrays["covariance"][0],
           "centre": own.centre, "scale": own.scale}  # fmt: skip
    again = GaussianMember.of_arrays(LAYOUT, old, (0.4, 0.25))
    np.testing.assert_array_equal(again.expected(x.numpy(), observed), own.expected(x.numpy(), observed))


@pytest.mark.parametrize("skewed", [False, True])
def test_files_keep_it_and_damage_is_noticed(tmp_path, skewed):
    _, incomplete = linear_table()
    incomplete = np.exp(1.5 * incomplete) if skewed else incomplete
    imputer = VSAEImputer(**SHORT).fit(incomplete)
    curves = fit(incomplete, ~np.isnan(incomplete), number_columns(imputer.closed_form_.layout)) if skewed else None
    imputer.closed_form_ = replace(imputer.closed_form_, curves=curves)  # whatever it chose: files have to keep both
    imputer.save(tmp_path / "model")
    again = VSAEImputer.load(tmp_path / "model")
    np.testing.assert_array_equal(again.transform(incomplete), imputer.transform(incomplete))
    np.testing.assert_array_equal(again.sample(incomplete, 1)[0], imputer.sample(incomplete, 1)[0])
    arrays = imputer.closed_form_.arrays
    wrong_ones = {
        "mean": arrays["mean"][..., :2],
        "covariance": arrays["covariance"][:0],
        "scale": arrays["scale"] * np.nan,
    }
    for name, wrong in wrong_ones.items():
        with pytest.raises(ValueError, match=f"{name} of the Gaussian member must be finite, of shape"):
            GaussianMember.of_arrays(imputer.schema_.layout(), {**arrays, name: wrong}, (0.1, 0.1))
    if skewed:
        for name, wrong in (("knots", arrays["knots"][1:]), ("scores", -arrays["scores"])):
            with pytest.raises(ValueError, match="knots"):
                GaussianMember.of_arrays(imputer.schema_.layout(), {**arrays, name: wrong}, (0.1, 0.1))
    with pytest.raises(ValueError, match="weight of the Gaussian member must have two dimensions"):
        GaussianMember.of_arrays(imputer.schema_.layout(), {**arrays, "weight": np.ones(1)}, (0.1, 0.1))
    told = "weights and scales of the Gaussian member must be positive, its shares between 0 and 1"
    with pytest.raises(ValueError, match=told):
        GaussianMember.of_arrays(imputer.schema_.layout(), {**arrays, "weight": -arrays["weight"]}, (0.1, 0.1))
    for scale, shares in ((0.0, (0.1, 0.1)), (1.0, (0.1, 1.1)), (1.0, (float("nan"), 0.1))):
        with pytest.raises(ValueError, match=told):
            GaussianMember.of_arrays(imputer.schema_.layout(), {**arrays, "scale": arrays["scale"] * scale}, shares)


def test_threads_change_no_bit_and_a_further_fit_fits_it_anew():
    _, incomplete = linear_table()
    imputer = VSAEImputer(**SHORT, n_jobs=1).fit(incomplete)
    two = VSAEImputer(**SHORT, n_jobs=2).fit(incomplete)
    np.testing.assert_array_equal(imputer.transform(incomplete), two.transform(incomplete))
    assert fitted_imputer(two)._closed_form.n_threads == 2
    before = imputer.closed_form_
    imputer.set_params(warm_start=True).fit(incomplete[:200])
    assert imputer.closed_form_ is not before
    assert not np.array_equal(imputer.closed_form_.mixtures[0].covariance, before.mixtures[0].covariance)
    by_decay = {}
    for history in imputer.history_:  # networks that differ in their weight decay are validated on the same rows
        by_decay.setdefault(history.weight_decay, []).append(history.seed)
    assert len(set(map(tuple, by_decay.values()))) == 1
    assert len(set(*list(by_decay.values())[:1])) == 2


def test_mixed_frames_with_unseen_levels_and_empty_rows():
    rng = np.random.default_rng(0)
    a = rng.normal(size=300)
    table = pd.DataFrame({"a": a, "b": 2 * a + rng.normal(size=300), "k": np.where(a > 0, "x", "y")})
    incomplete = table.mask(rng.random(table.shape) < 0.3)
    imputer = VSAEImputer(**SHORT).fit(incomplete)
    imputer.closed_form_ = replace(imputer.closed_form_, number_share=1.0, level_share=1.0)
    new = pd.DataFrame({"a": [np.nan, 1.5, 1e9], "b": [np.nan, np.nan, np.nan], "k": [None, "z", None]})
    with pytest.warns(UserWarning, match="not seen at fit"):
        completed = imputer.transform(new)
    assert completed["k"].tolist()[1:] == ["z", "x"]
    assert completed["b"].between(incomplete["b"].min(), incomplete["b"].max()).all()
