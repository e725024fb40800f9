"""The joint normal distribution of incomplete rows, held against closed forms in float64."""

import numpy as np
import pytest

from vsae_fast.joint_gaussian import JointGaussian, fit


def case(n_rows, n_columns, seed=0, hidden=0.5):
    """A distribution, rows of it, and which cells of them are observed."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(n_columns, n_columns))
    gaussian = JointGaussian(rng.normal(size=n_columns), factor @ factor.T / n_columns + 0.1 * np.eye(n_columns))
    x = rng.multivariate_normal(gaussian.mean, gaussian.covariance, n_rows)
    return gaussian, x, rng.random(x.shape) >= hidden


def conditioned(gaussian, row, seen):
    """Mean and covariance of what a row lacks, by inverting."""
    s, m = gaussian.covariance, gaussian.mean
    regression = s[np.ix_(~seen, seen)] @ np.linalg.inv(s[np.ix_(seen, seen)])
    return m[~seen] + regression @ (row[seen] - m[seen]), s[np.ix_(~seen, ~seen)] - regression @ s[np.ix_(seen, ~seen)]


@pytest.mark.parametrize(("n_rows", "n_columns"), [(1, 1), (3, 2), (65, 5), (200, 13), (70, 33)])
@pytest.mark.parametrize("hidden", [0.1, 0.5, 0.9])
def test_expected_values_and_moments_match_closed_forms(n_rows, n_columns, hidden):
    gaussian, x, observed = case(n_rows, n_columns, seed=n_columns, hidden=hidden)
    observed[0] = False
    observed[-1] = n_rows > 1
    expected, second = x.copy(), np.zeros((n_columns, n_columns))
    for row, seen, filled in zip(x, observed, expected, strict=True):
        mean, covariance = conditioned(gaussian, row, seen)
        filled[~seen] = mean
        second[np.ix_(~seen, ~seen)] += covariance
    unread = np.where(observed, x, np.nan)
    np.testing.assert_allclose(gaussian.complete(unread, observed), expected, rtol=1e-9, atol=1e-9)
    first, found = gaussian.moments(unread, observed)
    np.testing.assert_allclose(first, expected.sum(0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found, second + expected.T @ expected, rtol=1e-9, atol=1e-8)


def test_rows_and_threads_change_no_bit():
    gaussian, x, observed = case(301, 9)
    whole = gaussian.complete(x, observed)
    moments = gaussian.moments(x, observed)
    for n_threads in (2, 5):
        np.testing.assert_array_equal(gaussian.complete(x, observed, n_threads), whole)
        for own, other in zip(gaussian.moments(x, observed, n_threads), moments, strict=True):
            np.testing.assert_array_equal(own, other)
    for i in (0, 17, 300):
        np.testing.assert_array_equal(gaussian.complete(x[i : i + 1], observed[i : i + 1])[0], whole[i])
    order = np.random.default_rng(1).permutation(len(x))
    np.testing.assert_array_equal(gaussian.complete(x[order], observed[order]), whole[order])
    strided = np.asfortranarray(x)
    np.testing.assert_array_equal(gaussian.complete(strided, np.asfortranarray(observed)), whole)


def test_complete_rows_give_their_own_moments():
    _, x, observed = case(400, 4)
    found = fit(x, np.ones_like(observed), prior=3.0)
    deviations = x - x.mean(0)
    np.testing.assert_allclose(found.mean, x.mean(0))
    np.testing.assert_allclose(found.covariance, (deviations.T @ deviations + 3 * np.eye(4)) / 403)


def log_likelihood(gaussian, x, observed, prior):
    """Of the observed cells, with the prior's term: what expectation maximisation raises."""
    total = -0.5 * prior * (np.linalg.slogdet(gaussian.covariance)[1] + np.trace(np.linalg.inv(gaussian.covariance)))
    for row, seen in zip(x, observed, strict=True):
        s = gaussian.covariance[np.ix_(seen, seen)]
        d = row[seen] - gaussian.mean[seen]
        total -= 0.5 * (np.linalg.slogdet(s)[1] + d @ np.linalg.solve(s, d))
    return total


def test_the_fit_is_a_maximum():
    truth, x, observed = case(600, 5, hidden=0.3)
    found = fit(x, observed, prior=2.0)
    best = log_likelihood(found, x, observed, 2.0)
    assert best > log_likelihood(truth, x, observed, 2.0)
    assert best > log_likelihood(JointGaussian(np.zeros(5), np.eye(5)), x, observed, 2.0)
    rng = np.random.default_rng(3)
    for _ in range(10):
        noise = rng.normal(size=(5, 5)) * 0.03
        near = JointGaussian(found.mean + rng.normal(size=5) * 0.03, found.covariance + noise @ noise.T)
        assert log_likelihood(near, x, observed, 2.0) < best + 0.05
    np.testing.assert_allclose(found.covariance, truth.covariance, atol=0.25)


def test_columns_that_follow_from_others_are_finite_and_known():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(300, 2))
    x = np.column_stack([a, a, a.sum(1) / np.sqrt(2), np.zeros(300)])
    observed = rng.random(x.shape) > 0.3
    completed = fit(x, observed, prior=2.0).complete(x, observed)
    assert np.isfinite(completed).all()
    twin = ~observed[:, 0] & observed[:, 2]
    assert np.abs(completed[twin, 0] - x[twin, 0]).max() < 0.1


@pytest.mark.parametrize(
    ("x", "observed", "told"),
    [
        (np.zeros((3, 2)), np.ones((3, 2), bool), r"x and observed must both have shape \(N, 3\), got \(3, 2\)"),
        (np.zeros((3, 3)), np.ones((2, 3), bool), r"got \(3, 3\) and \(2, 3\)"),
        (np.zeros(3), np.ones(3, bool), r"must both have shape"),
    ],
)
def test_wrong_shapes_are_refused(x, observed, told):
    with pytest.raises(ValueError, match=told):
        JointGaussian(np.zeros(3), np.eye(3)).complete(x, observed)
    with pytest.raises(ValueError, match=r"covariance must have shape \(3, 3\), got \(2, 2\)"):
        JointGaussian(np.zeros(3), np.eye(2)).complete(np.zeros((1, 3)), np.ones((1, 3), bool))
