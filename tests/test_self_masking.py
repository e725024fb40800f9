"""Columns whose cells are missing because of their own value."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit, log_expit
from scipy.stats import norm

from vsae_fast import VSAEImputer, impute
from vsae_fast.self_masking import (
    BOUNDS,
    PRIOR,
    PRIOR_LOG_TAILWEIGHT,
    PRIOR_SKEWNESS,
    SelfMasking,
    drawn_missing,
    expected_missing,
    fit_self_masking,
    negative_log_likelihood,
)

TERM = SelfMasking(shift=0.3, slope=1.2, scale=0.8, intercept=0.4, coefficient=-1.5)
SKEWED = TERM._replace(skewness=0.5, tailweight=0.8)


def simulated(n, term, seed=0):
    """Values, predictions, and which are observed, from the model itself."""
    rng = np.random.default_rng(seed)
    predicted = rng.normal(size=n)
    left = np.sinh((np.arcsinh(rng.normal(size=n)) + term.skewness) / term.tailweight)
    x = term.shift + term.slope * predicted + term.scale * left
    return x, predicted, rng.random(n) < expit(term.intercept + term.coefficient * x)


def fit(x, predicted, seen):
    return fit_self_masking(x[seen], predicted[seen], predicted[~seen], int(seen.sum()), int((~seen).sum()))


def log_density(term, x, predicted):
    """Of a value whose monotone image is standard normal, by the numerical derivative of that."""

    def image(value):
        error = (value - term.shift - term.slope * predicted) / term.scale
        return np.sinh(term.tailweight * np.arcsinh(error) - term.skewness)

    return norm.logpdf(image(x)) + np.log((image(x + 1e-5) - image(x - 1e-5)) / 2e-5)


@pytest.mark.parametrize("term", [TERM, SKEWED, TERM._replace(skewness=-0.7, tailweight=1.3, coefficient=4.0)])
def test_likelihood_is_the_integral(term):
    x, predicted, seen = simulated(40, term)
    known = log_density(term, x[seen], predicted[seen]) + log_expit(term.intercept + term.coefficient * x[seen])

    def hidden(p):
        def density(value):
            return np.exp(log_density(term, value, p)) * expit(-term.intercept - term.coefficient * value)

        centre = term.shift + term.slope * p
        return quad(density, centre - 15, centre + 15, points=[centre], limit=500)[0]

    missing = np.log([hidden(p) for p in predicted[~seen]])
    priors = (term.coefficient / PRIOR, term.skewness / PRIOR_SKEWNESS, np.log(term.tailweight) / PRIOR_LOG_TAILWEIGHT)
    constant = 0.5 * np.log(2 * np.pi)  # left out
    expected = 0.5 * np.square(priors).sum() - 300 * (known.mean() + constant) - 77 * missing.mean()
    logs = term._replace(scale=np.log(term.scale), tailweight=np.log(term.tailweight))
    cells = (torch.from_numpy(values) for values in (x[seen], predicted[seen], predicted[~seen]))
    assert negative_log_likelihood(torch.tensor(logs), *cells, 300, 77).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("term", [TERM, SKEWED])
def test_a_known_term_is_found(term):
    x, predicted, seen = simulated(20_000, term)
    found = fit(x, predicted, seen)
    assert np.allclose(found, term, atol=0.15)
    # Estimates of 20,000 cells have standard errors of a few hundredths.
    assert abs(expected_missing(found, predicted[~seen]).mean() - x[~seen].mean()) < 0.1
    assert abs((predicted[~seen] * term.slope + term.shift).mean() - x[~seen].mean()) > 0.2


def test_skewness_is_worth_its_parameters(monkeypatch):
    x, predicted, seen = simulated(5_000, SKEWED)
    found = fit(x, predicted, seen)
    monkeypatch.setattr("vsae_fast.self_masking.BOUNDS", [*BOUNDS[:5], (0.0, 0.0), (0.0, 0.0)])
    normal = fit(x, predicted, seen)
    off, off_normal = (
        abs(expected_missing(term, predicted[~seen]).mean() - x[~seen].mean()) for term in (found, normal)
    )
    assert off < 0.5 * off_normal


def test_nothing_is_made_of_cells_that_are_missing_at_random():
    for ignorable in (TERM._replace(coefficient=0.0), SKEWED._replace(coefficient=0.0)):
        x, predicted, seen = simulated(5_000, ignorable)
        found = fit(x, predicted, seen)
        assert abs(found.coefficient) < 0.3
        assert abs(expected_missing(found, predicted[~seen]).mean() - x[~seen].mean()) < 0.1


@pytest.mark.parametrize("coefficient", [-1.5, 0.0, 12.0])
@pytest.mark.parametrize("shape", [(0.0, 1.0), (0.5, 0.8)])
def test_expected_values_are_the_integral(coefficient, shape):
    term = TERM._replace(coefficient=coefficient, skewness=shape[0], tailweight=shape[1])
    for predicted in (-2.0, 0.0, 1.7):
        centre = term.shift + term.slope * predicted

        def density(x, predicted=predicted):
            return np.exp(log_density(term, x, predicted)) * expit(-(term.intercept + term.coefficient * x))

        ends = {"a": centre - 25 * term.scale, "b": centre + 25 * term.scale, "points": [centre], "limit": 500}
        exact = quad(lambda x: x * density(x), **ends)[0] / quad(density, **ends)[0]
        assert expected_missing(term, np.array([predicted]))[0] == pytest.approx(exact, abs=2e-3)


@pytest.mark.parametrize("term", [TERM, SKEWED])
def test_draws_have_the_expected_mean_and_the_right_distribution(term):
    uniform = (np.arange(20_000) + 0.5) / 20_000
    predicted = np.full(len(uniform), 0.5)
    drawn = drawn_missing(term, predicted, uniform)
    assert (np.diff(drawn) >= 0).all()
    assert drawn.mean() == pytest.approx(expected_missing(term, predicted[:1])[0], abs=2e-3)
    # Acceptance of plain draws with the probability of being missing gives the same quantiles.
    rng = np.random.default_rng(0)
    left = np.sinh((np.arcsinh(rng.normal(size=400_000)) + term.skewness) / term.tailweight)
    plain = term.shift + term.slope * 0.5 + term.scale * left
    kept = plain[rng.random(len(plain)) > expit(term.intercept + term.coefficient * plain)]
    for q in (0.05, 0.5, 0.95):
        assert np.quantile(drawn, q) == pytest.approx(np.quantile(kept, q), abs=0.02)


# ---- as a user sees it ----------------------------------------------------------------------------------------------


def table(seed=0, n=600):
    """Four columns of one factor; of the first, large values are missing."""
    rng = np.random.default_rng(seed)
    truth = pd.DataFrame(rng.normal(size=(n, 1)) + rng.normal(size=(n, 4)), columns=["income", "a", "b", "c"])
    hidden = rng.random(n) < expit(3 * truth["income"])
    return truth, truth.assign(income=truth["income"].mask(hidden)), hidden


QUICK = {"n_models": 1, "epochs": 60, "random_state": 0}


@pytest.fixture(scope="module")
def fitted():
    return VSAEImputer(self_masking=["income"], **QUICK).fit(table()[1])


def bias(completed, truth, hidden):
    """Of the mean of the missing cells, in standard deviations of the observed ones."""
    return (completed["income"][hidden].mean() - truth["income"][hidden].mean()) / truth["income"][~hidden].std()


def test_the_bias_is_at_most_half_of_that_without_the_term(fitted):
    truth, incomplete, hidden = table()
    plain = bias(impute(incomplete, **QUICK), truth, hidden)
    assert plain < -1
    assert abs(bias(fitted.transform(incomplete), truth, hidden)) <= 0.5 * abs(plain)
    draws = fitted.sample(incomplete, 5, random_state=0)
    assert np.mean([abs(bias(draw, truth, hidden)) for draw in draws]) <= 0.5 * abs(plain)
    for column in ("a", "b", "c"):
        assert draws[0][column].equals(incomplete[column])


def test_imputations_leave_the_observed_range_but_not_the_callers(fitted):
    _, incomplete, hidden = table()
    assert fitted.transform(incomplete)["income"][hidden].max() > incomplete["income"].max()
    held = VSAEImputer(self_masking=["income"], max_value={"income": 1.5}, **QUICK).fit_transform(incomplete)
    assert held["income"][hidden].max() == 1.5


def test_rows_are_imputed_alone_and_files_keep_the_term(fitted, tmp_path):
    _, incomplete, _ = table()
    whole = fitted.transform(incomplete)
    pd.testing.assert_frame_equal(fitted.transform(incomplete[100:150]), whole[100:150])
    drawn = fitted.sample(incomplete, 2, random_state=3)[1]
    pd.testing.assert_frame_equal(fitted.sample(incomplete[:50], 2, random_state=3)[1], drawn[:50])
    fitted.save(tmp_path / "model")
    loaded = VSAEImputer.load(tmp_path / "model")
    assert loaded.self_masking_ == fitted.self_masking_
    pd.testing.assert_frame_equal(loaded.transform(incomplete), whole)


def test_what_was_fitted_stays_where_a_further_fit_fails(fitted, monkeypatch):
    _, incomplete, _ = table()
    before = fitted.transform(incomplete)
    monkeypatch.setattr("vsae_fast.self_masking.fit_self_masking", lambda *cells: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fitted.fit(incomplete[:300])
    pd.testing.assert_frame_equal(fitted.transform(incomplete), before)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("income", "self_masking must be a list of columns, got 'income'; wrap a single one"),
        (3, "self_masking must be a list of columns, got 3"),
        (["incme"], "there is no column 'incme'"),
        (["a"], "self_masking names column 'a', which lacks no cell; leave it out"),
        (["level"], "self_masking names column 'level', which is categorical; it is for numbers"),
        (["same"], "self_masking names column 'same', which is constant; it is for numbers"),
    ],
)
def test_bad_columns(columns, message):
    incomplete = table()[1].assign(level=["x", "y", None] * 200, same=1.0)
    with pytest.raises(ValueError, match=message):
        VSAEImputer(self_masking=columns, **QUICK).fit(incomplete)


def test_overimputation_of_a_self_masking_column_is_refused(fitted):
    pytest.importorskip("matplotlib")
    from vsae_fast.plot import overimputation

    with pytest.raises(ValueError, match="column 'income' masks itself"):
        overimputation(fitted, table()[1], "income")
