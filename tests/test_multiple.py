"""Several completions as one object, and Rubin's rules."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from vsae_fast import VSAEImputer, impute, pool

QUICK = {"epochs": 3, "n_models": 1, "random_state": 0}


@pytest.fixture(scope="module")
def incomplete():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=60), "b": rng.normal(size=60), "c": rng.choice(["u", "v"], 60)})
    table = table.astype({"c": object})
    return table.mask(rng.random(table.shape) < 0.3)


@pytest.fixture(scope="module")
def draws(incomplete):
    return impute(incomplete, n_imputations=6, **QUICK)


def test_a_sequence(draws, incomplete):
    assert len(draws) == 6
    assert repr(draws) == "MultipleImputation(6 completions of 60 rows x 3 columns)"
    tables = list(draws)
    for i in (0, 3, 5):
        pd.testing.assert_frame_equal(draws[i], tables[i])
    pd.testing.assert_frame_equal(draws[-1], tables[5])
    assert [table.equals(other) for table, other in zip(draws[1:4], tables[1:4], strict=True)] == [True] * 3
    with pytest.raises(IndexError, match="imputation 6 of 6"):
        draws[6]
    assert not tables[0].equals(tables[1])


def test_impute_equals_fit_and_sample(draws, incomplete):
    again = VSAEImputer(**QUICK).fit(incomplete).sample(incomplete, 6)
    pd.testing.assert_frame_equal(draws[2], again[2])
    for bad in (0, 2.5, True):
        with pytest.raises(ValueError, match="n_imputations must be an integer of at least 1"):
            impute(incomplete, n_imputations=bad, **QUICK)


def test_moments_and_quantiles(draws, incomplete):
    numbers = np.stack([table[["a", "b"]].to_numpy() for table in draws])
    np.testing.assert_allclose(draws.mean()[:, :2], numbers.mean(0))
    np.testing.assert_allclose(draws.std()[:, :2], numbers.std(0, ddof=1), atol=1e-12)
    np.testing.assert_allclose(draws.quantile(0.5)[:, :2], np.median(numbers, axis=0))
    assert np.isnan(draws.mean()[:, 2]).all()
    observed = incomplete[["a", "b"]].notna().to_numpy()
    assert not draws.std()[:, :2][observed].any()
    low, high = draws.interval(0.5)
    assert (low[:, :2] <= high[:, :2]).all()
    assert (low[:, :2][~observed] < high[:, :2][~observed]).any()
    for bad in (0, 1, 1.5):
        with pytest.raises(ValueError, match="level must be between 0 and 1"):
            draws.interval(bad)
    with pytest.raises(ValueError, match="q must be between 0 and 1"):
        draws.quantile(1.5)
    with pytest.raises(ValueError, match="n_imputations of at least 2"):
        VSAEImputer(**QUICK).fit(incomplete).sample(incomplete, 1).std()


def test_long(draws, incomplete):
    long = draws.to_long()
    assert list(long.columns) == ["imputation", "a", "b", "c"]
    assert len(long) == 6 * 60
    part = long[long["imputation"] == 4].drop(columns="imputation").reset_index(drop=True)
    pd.testing.assert_frame_equal(part, draws[4].reset_index(drop=True))
    frame = pl.from_pandas(incomplete)
    assert impute(frame, n_imputations=2, **QUICK).to_long().columns == long.columns.tolist()
    arrays = impute(incomplete[["a", "b"]].to_numpy(), n_imputations=2, **QUICK)
    with pytest.raises(TypeError, match=r"numpy.stack\(list\(draws\)\)"):
        arrays.to_long()
    taken = incomplete.rename(columns={"a": "imputation"})
    with pytest.raises(ValueError, match="rename it"):
        impute(taken, n_imputations=2, **QUICK).to_long()


# Variances of the means of three variables, five imputations, 30 degrees of freedom, from the first example of the
# manual of SAS's MIANALYZE procedure: between, within, total, degrees of freedom, relative increase; the fraction of
# missing information with Rubin's degrees of freedom.
FITNESS = [
    (0.056930, 0.954041, 1.022356, 25.549, 0.071606, 0.068898),
    (0.000811, 0.064496, 0.065469, 27.721, 0.015084, 0.014968),
    (0.922032, 3.269089, 4.375528, 15.753, 0.338455, 0.275664),
]


@pytest.mark.parametrize(("between", "within", "total", "df", "increase", "fmi"), FITNESS)
def test_published_example(between, within, total, df, increase, fmi):
    spread = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    estimates = 50 + spread * np.sqrt(between / spread.var(ddof=1))
    pooled = pool(estimates, np.full(5, within), dfcom=30)
    assert pooled.estimate == pytest.approx(50)
    assert pooled.between == pytest.approx(between)
    assert pooled.variance == pytest.approx(total, rel=2e-5)
    assert pooled.df == pytest.approx(df, rel=1e-3)
    assert pooled.relative_increase == pytest.approx(increase, rel=1e-3)
    assert pool(estimates, np.full(5, within), rule="rubin").fmi == pytest.approx(fmi, rel=1e-3)


def test_vectors_and_matrices_agree():
    rng = np.random.default_rng(0)
    q = rng.normal(size=(7, 3))
    covariance = np.stack([np.cov(rng.normal(size=(3, 20))) for _ in range(7)])
    whole = pool(q, covariance, dfcom=50)
    parts = pool(q, np.diagonal(covariance, axis1=1, axis2=2), dfcom=50)
    np.testing.assert_allclose(np.diagonal(whole.variance), parts.variance)
    for field in ("estimate", "df", "fmi", "relative_increase", "standard_error"):
        np.testing.assert_allclose(getattr(whole, field), getattr(parts, field))
    np.testing.assert_allclose(whole.between, np.cov(q.T))
    low, high = whole.interval(0.95)
    assert ((low < whole.estimate) & (whole.estimate < high)).all()
    single = pool(q[:, 0], covariance[:, 0, 0], dfcom=50)
    np.testing.assert_allclose(single.interval(), [low[0], high[0]])
    assert single.p_value(float(low[0])) == pytest.approx(0.05)


def test_nothing_missing_and_everything_missing():
    same = pool([2.0, 2.0, 2.0], [0.5, 0.5, 0.5], dfcom=10)
    assert same.variance == 0.5
    assert same.df == pytest.approx(11 / 13 * 10)
    nothing_known = pool([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    assert nothing_known.df == pytest.approx(2.0)
    assert nothing_known.fmi == 1.0
    constant = pool([1.0, 1.0], [0.0, 0.0])
    assert constant.variance == 0
    assert np.isfinite(constant.fmi)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [1.0]), "at least 2 imputations, got 1"),
        ((1.0, 1.0), "at least 2 imputations, got 0"),
        (([1.0, 2.0], [1.0, 2.0, 3.0]), r"shape \(2,\) of the estimates"),
        (([1.0, np.nan], [1.0, 2.0]), "must be finite"),
        (([1.0, 2.0], [1.0, -2.0]), "must not be negative"),
        (([1.0, 2.0], [1.0, 2.0], 0), "dfcom must be positive"),
        (([1.0, 2.0], [1.0, 2.0], None, "mean"), "unknown rule 'mean'"),
    ],
)
def test_bad_input_of_pool(arguments, message):
    with pytest.raises(ValueError, match=message):
        pool(*arguments)


def proper_draws(x, y, seen, n_imputations, rng):
    """Completed responses from the posterior of a normal regression under a flat prior, as Rubin has it."""
    design = np.column_stack([np.ones(seen.sum()), x[seen]])
    inverse = np.linalg.inv(design.T @ design)
    centre = inverse @ design.T @ y[seen]
    n_free = seen.sum() - 2
    squares = ((y[seen] - design @ centre) ** 2).sum()
    for _ in range(n_imputations):
        variance = squares / rng.chisquare(n_free)
        a, b = rng.multivariate_normal(centre, variance * inverse)
        yield np.where(seen, y, a + b * x + np.sqrt(variance) * rng.normal(size=len(x)))


def slope(x, y):
    design = np.column_stack([np.ones(len(x)), x])
    inverse = np.linalg.inv(design.T @ design)
    centre = inverse @ design.T @ y
    return centre[1], inverse[1, 1] * ((y - design @ centre) ** 2).sum() / (len(x) - 2)


@pytest.mark.parametrize("rule", ["barnard-rubin", "rubin"])
def test_pooled_intervals_of_proper_draws_hold_95_percent(rule):
    """Forty rows, 40 % of the response missing: small enough for degrees of freedom to matter."""
    rng = np.random.default_rng(0)
    n_repetitions, held, averaged = 800, 0, 0
    for _ in range(n_repetitions):
        x = rng.normal(size=40)
        y = 1.0 + 0.7 * x + rng.normal(size=40)
        seen = rng.random(40) < 0.6
        estimates, variances = zip(*(slope(x, draw) for draw in proper_draws(x, y, seen, 10, rng)), strict=True)
        low, high = pool(estimates, variances, dfcom=38, rule=rule).interval(0.95)
        held += low <= 0.7 <= high
        reach = 2.02 * np.sqrt(np.mean(variances))  # the usual mistake: the mean of the standard errors
        averaged += abs(np.mean(estimates) - 0.7) <= reach
    assert 0.93 <= held / n_repetitions <= 0.975
    assert averaged / n_repetitions < 0.91
