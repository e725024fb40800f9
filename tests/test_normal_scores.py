"""Curves between numbers and normal scores: against numpy's interpolation and closed forms."""

import numpy as np
import pytest
from scipy.stats import norm, skew

from vsae_fast.normal_scores import MOST_KNOTS, NORMAL_SHARE, ScoreCurves, fit


def curves(n_curves=3, n_knots=9, n_columns=5, seed=0):
    rng = np.random.default_rng(seed)
    knots, scores = (np.cumsum(rng.uniform(0.1, 2, (n_curves, n_knots)), axis=1) - n_knots / 2 for _ in range(2))
    return ScoreCurves(np.sort(rng.permutation(n_columns)[:n_curves]).astype(np.int32), knots, scores)


@pytest.mark.parametrize(("n_rows", "n_curves", "n_knots", "n_columns"), [
    (0, 1, 2, 1), (1, 1, 2, 1), (1, 3, 7, 3), (333, 5, 64, 8), (2050, 2, 3, 3), (65, 4, 33, 9),
])  # fmt: skip
def test_along_a_curve_and_beyond_its_ends(n_rows, n_curves, n_knots, n_columns):
    own = curves(n_curves, n_knots, n_columns)
    x = np.random.default_rng(1).normal(scale=n_knots, size=(n_rows, n_columns))
    x[: n_rows // 3, own.columns] = own.knots[:, 0]
    x[n_rows // 2 :, own.columns[0]] = own.knots[0, n_rows % n_knots]
    expected = x.copy()
    for column, knots, scores in zip(own.columns, own.knots, own.scores, strict=True):
        slope = (scores[-1] - scores[0]) / (knots[-1] - knots[0])
        beyond = np.minimum(x[:, column] - knots[0], 0) + np.maximum(x[:, column] - knots[-1], 0)
        expected[:, column] = np.interp(x[:, column], knots, scores) + slope * beyond
    given = x.copy()
    np.testing.assert_allclose(own.scores_of(x), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(x, given)
    np.testing.assert_allclose(own.numbers_of(own.scores_of(x)), x, rtol=1e-10, atol=1e-10)


def test_rows_and_threads_change_no_bit_and_nan_stays():
    own = curves(4, 21, 6)
    x = np.random.default_rng(2).normal(scale=20, size=(3001, 6))
    x[5] = np.nan
    whole = own.scores_of(x)
    assert np.isnan(whole[5]).all()
    for n_threads in (2, 5):
        np.testing.assert_array_equal(own.scores_of(x, n_threads), whole)
    np.testing.assert_array_equal(own.scores_of(np.asfortranarray(x)), whole)
    np.testing.assert_array_equal(own.scores_of(x[1500:1501])[0], whole[1500])


def test_scores_of_ranks_with_ties():
    x = np.array([-1.0, 0.5, 0.5, 2.0, 9.0])[:, None]
    observed = np.array([True, True, True, True, False])[:, None]
    found = fit(x, observed, np.array([0], dtype=np.int32))
    normal = norm.ppf([1 / 8, 1 / 2, 7 / 8])
    normal /= np.sqrt(np.average(normal**2, weights=[1, 2, 1]))
    np.testing.assert_array_equal(found.knots, [[-1.0, 0.5, 2.0]])
    np.testing.assert_allclose(found.scores[0], NORMAL_SHARE * normal + (1 - NORMAL_SHARE) * found.knots[0], rtol=1e-12)


def test_skewed_columns_become_nearly_normal_with_few_knots():
    rng = np.random.default_rng(3)
    x = np.exp(rng.normal(size=(5000, 2)))
    x = (x - x.mean(0)) / x.std(0)
    observed = rng.random(x.shape) < 0.7
    found = fit(x, observed, np.arange(2, dtype=np.int32))
    assert found.knots.shape[1] <= MOST_KNOTS + 1
    for column in range(2):
        seen = x[observed[:, column], column]
        assert found.knots[column, 0] == seen.min()
        assert found.knots[column, -1] >= seen.max()
    before, after = skew(x), skew(found.scores_of(x))
    assert (np.abs(after) < 0.4 * before).all()


def test_columns_of_few_values_and_of_none():
    x = np.zeros((6, 4))
    x[:, 1] = [1, 1, 1, -1, -1, -1]
    x[:, 2] = np.linspace(-1, 1, 6)
    observed = np.ones(x.shape, dtype=bool)
    observed[:, 3] = False
    found = fit(x, observed, np.arange(4, dtype=np.int32))
    probe = np.random.default_rng(0).normal(size=(50, 4))
    scores = found.scores_of(probe)
    for column in (0, 1, 3):  # nothing to bend: constant, two values, never observed
        np.testing.assert_allclose(scores[:, column], probe[:, column], atol=1e-12)
    only = fit(x, observed, np.array([0], dtype=np.int32))
    np.testing.assert_allclose(only.scores_of(probe), probe, atol=1e-12)


def test_a_far_number_keeps_its_distance():
    x = np.random.default_rng(0).normal(size=(200, 1))
    found = fit(x, np.ones(x.shape, dtype=bool), np.array([0], dtype=np.int32))
    far = np.array([[1e4], [-1e4]])
    assert (np.abs(found.scores_of(far)) > 5e3).all()
    np.testing.assert_allclose(found.numbers_of(found.scores_of(far)), far)


def test_bad_curves_and_rows():
    own = curves(2, 4, 3)
    for knots, scores, message in (
        (own.knots[:1], own.scores, r"knots must have shape \(2, at least 2\), got \(1, 4\)"),
        (own.knots[:, :1], own.scores[:, :1], r"knots must have shape \(2, at least 2\), got \(2, 1\)"),
        (own.knots, own.scores[:, :3], r"scores must have the shape of knots, \(2, 4\), got \(2, 3\)"),
        (own.knots, own.scores[:, ::-1], "must be finite and increase"),
        (own.knots * np.nan, own.scores, "must be finite and increase"),
    ):
        with pytest.raises(ValueError, match=message):
            ScoreCurves(own.columns, knots, scores)
    with pytest.raises(ValueError, match="columns must not be negative, got -1"):
        ScoreCurves(np.array([-1, 2], dtype=np.int32), own.knots, own.scores)
    for rows in (np.zeros(3), np.zeros((4, own.columns.max()))):
        with pytest.raises(ValueError, match="x must have two dimensions and all columns of the curves"):
            own.scores_of(rows)
