"""Mixtures of normal distributions of incomplete rows, held against closed forms in float64."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from vsae_fast.gaussian_mixture import CENTRE_ROWS, GaussianMixture, Moments, _most_likely, fit, split


def case(n_rows, n_columns, n_components=1, seed=0, hidden=0.5):
    """A mixture, rows of it, which cells of them are observed, and the components that the rows are of."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(n_columns, n_columns))
    mixture = GaussianMixture(
        rng.dirichlet(np.full(n_components, 5.0)),
        (1 if n_components == 1 else 3) * rng.normal(size=(n_components, n_columns)),
        factor @ factor.T / n_columns + 0.1 * np.eye(n_columns),
    )
    component = rng.choice(n_components, n_rows, p=mixture.weight)
    x = mixture.mean[component] + rng.multivariate_normal(np.zeros(n_columns), mixture.covariance, n_rows)
    return mixture, x, rng.random(x.shape) >= hidden, component


def by_hand(mixture, x, observed):
    """Expected values and moments, row by row and component by component, by inverting."""
    expected, moments = x.copy(), Moments(*(np.zeros(part.shape) for part in mixture))
    s = mixture.covariance
    for row, seen, filled in zip(x, observed, expected, strict=True):
        unseen = ~seen
        regression = s[np.ix_(unseen, seen)] @ np.linalg.inv(s[np.ix_(seen, seen)])
        left = s[np.ix_(unseen, unseen)] - regression @ s[np.ix_(seen, unseen)]
        density = [
            w * (multivariate_normal.pdf(row[seen], mean[seen], s[np.ix_(seen, seen)]) if seen.any() else 1.0)
            for w, mean in zip(mixture.weight, mixture.mean, strict=True)
        ]
        probability = np.array(density) / np.sum(density)
        of_components = np.repeat(row[None], len(probability), axis=0)
        for own, mean in zip(of_components, mixture.mean, strict=True):
            own[unseen] = mean[unseen] + regression @ (row[seen] - mean[seen])
        filled[unseen] = probability @ of_components[:, unseen]
        moments.weight[:] += probability
        moments.first[:] += probability[:, None] * of_components
        moments.second[:] += np.einsum("c,ci,cj->ij", probability, of_components, of_components)
        moments.second[np.ix_(unseen, unseen)] += left
    return expected, moments


@pytest.mark.parametrize("n_components", [1, 2, 5])
@pytest.mark.parametrize(("n_rows", "n_columns"), [(1, 1), (3, 2), (65, 5), (70, 33)])
@pytest.mark.parametrize("hidden", [0.1, 0.5, 0.9])
def test_expected_values_and_moments_match_closed_forms(n_rows, n_columns, n_components, hidden):
    mixture, x, observed, _ = case(n_rows, n_columns, n_components, seed=n_columns, hidden=hidden)
    observed[0] = False
    observed[-1] = n_rows > 1
    expected, moments = by_hand(mixture, x, observed)
    unread = np.where(observed, x, np.nan)
    np.testing.assert_allclose(mixture.complete(unread, observed), expected, rtol=1e-9, atol=1e-9)
    for own, right in zip(mixture.moments(unread, observed), moments, strict=True):
        np.testing.assert_allclose(own, right, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("n_components", [1, 7])
def test_rows_and_threads_change_no_bit(n_components):
    mixture, x, observed, _ = case(301, 9, n_components)
    whole = mixture.complete(x, observed)
    moments = mixture.moments(x, observed)
    for n_threads in (2, 5):
        np.testing.assert_array_equal(mixture.complete(x, observed, n_threads), whole)
        for own, other in zip(mixture.moments(x, observed, n_threads), moments, strict=True):
            np.testing.assert_array_equal(own, other)
    for i in (0, 17, 300):
        np.testing.assert_array_equal(mixture.complete(x[i : i + 1], observed[i : i + 1])[0], whole[i])
    order = np.random.default_rng(1).permutation(len(x))
    np.testing.assert_array_equal(mixture.complete(x[order], observed[order]), whole[order])
    strided = np.asfortranarray(x)
    np.testing.assert_array_equal(mixture.complete(strided, np.asfortranarray(observed)), whole)


def test_rows_far_from_every_component_are_finite():
    mixture, x, observed, _ = case(50, 6, 4)
    for far in (1e6, 1e150):
        assert np.isfinite(mixture.complete(far * x, observed)).all()


def test_complete_rows_give_their_own_moments():
    _, x, observed, _ = case(400, 4)
    found = fit(x, np.ones_like(observed), prior=3.0)
    deviations = x - x.mean(0)
    np.testing.assert_allclose(found.mean[0], x.mean(0))
    np.testing.assert_allclose(found.covariance, (deviations.T @ deviations + 3 * np.eye(4)) / 403)
    assert found.weight == [1.0]


def log_posterior(mixture, x, observed, prior):
    """Of the observed cells, with the priors' terms: what expectation maximisation raises."""
    precision = np.linalg.inv(mixture.covariance)
    total = -0.5 * prior * (np.linalg.slogdet(mixture.covariance)[1] + np.trace(precision))
    if len(mixture.weight) > 1:
        total += np.log(mixture.weight).sum()
    for row, seen in zip(x, observed, strict=True):
        s = mixture.covariance[np.ix_(seen, seen)]
        density = [multivariate_normal.pdf(row[seen], mean[seen], s) if seen.any() else 1.0 for mean in mixture.mean]
        total += np.log(mixture.weight @ density)
    return total


def test_the_fit_is_a_maximum():
    truth, x, observed, _ = case(600, 5, hidden=0.3)
    found = fit(x, observed, prior=2.0)
    best = log_posterior(found, x, observed, 2.0)
    one = np.ones(1)
    assert best > log_posterior(truth, x, observed, 2.0)
    assert best > log_posterior(GaussianMixture(one, np.zeros((1, 5)), np.eye(5)), x, observed, 2.0)
    rng = np.random.default_rng(3)
    for _ in range(10):
        noise = rng.normal(size=(5, 5)) * 0.03
        near = GaussianMixture(one, found.mean + rng.normal(size=5) * 0.03, found.covariance + noise @ noise.T)
        assert log_posterior(near, x, observed, 2.0) < best + 0.05
    np.testing.assert_allclose(found.covariance, truth.covariance, atol=0.25)


def test_components_are_found_again():
    truth, x, observed, component = case(1500, 5, n_components=3, seed=3, hidden=0.2)
    start = split(fit(x, observed, 2.0), x, observed, 2.0, 3, seed=0)
    found = fit(x, observed, 2.0, start)
    assert log_posterior(found, x, observed, 2.0) > log_posterior(truth, x, observed, 2.0) - 2
    assert log_posterior(found, x, observed, 2.0) > log_posterior(start, x, observed, 2.0)
    apart = np.linalg.norm(found.mean[:, None] - truth.mean, axis=2)
    nearest = apart.argmin(0)
    assert sorted(nearest) == [0, 1, 2]
    assert apart.min(0).max() < 0.5
    np.testing.assert_allclose(found.weight[nearest], np.bincount(component) / 1500, atol=0.03)
    np.testing.assert_allclose(found.covariance, truth.covariance, atol=0.25)
    np.testing.assert_allclose(found.weight.sum(), 1)


def test_a_step_of_the_fit_by_hand():
    """One component's rows, and one that nothing belongs to: the priors alone place it at the overall mean."""
    x = np.array([[0.0], [2.0]])
    far = GaussianMixture(np.array([1 - 1e-300, 1e-300]), np.array([[1.0], [1e3]]), np.eye(1))
    moments = far.moments(x, np.ones((2, 1), bool))
    np.testing.assert_array_equal(moments.weight, [2, 0])
    found = _most_likely(moments, 2, prior=4.0)
    np.testing.assert_allclose(found.mean, [[(2 + CENTRE_ROWS) / (2 + CENTRE_ROWS)], [1.0]])
    np.testing.assert_allclose(found.weight, [0.75, 0.25])  # a row's worth each
    np.testing.assert_allclose(found.covariance, [[(2 + 4) / 6]])  # squares of deviations from 1, and four of 1


def test_starts_differ_by_their_seed_alone():
    mixture, x, observed, _ = case(200, 4)
    first, same, other = (split(mixture, x, observed, 2.0, 5, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.mean, same.mean)
    assert not np.array_equal(first.mean, other.mean)


def test_fewer_different_rows_than_components_are_no_error():
    x = np.repeat([[0.0, 1.0], [1.0, 0.0]], 20, axis=0)
    observed = np.ones(x.shape, bool)
    found = fit(x, observed, 2.0, split(fit(x, observed, 2.0), x, observed, 2.0, 4, seed=0))
    assert all(np.isfinite(part).all() for part in found)
    assert (found.weight > 0).all()


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
        GaussianMixture(np.ones(1), np.zeros((1, 3)), np.eye(3)).complete(x, observed)
    rows = np.zeros((1, 3)), np.ones((1, 3), bool)
    with pytest.raises(ValueError, match=r"covariance must have shape \(3, 3\), got \(2, 2\)"):
        GaussianMixture(np.ones(1), np.zeros((1, 3)), np.eye(2)).complete(*rows)
    with pytest.raises(ValueError, match=r"weight must have shape \(2,\), got \(1,\)"):
        GaussianMixture(np.ones(1), np.zeros((2, 3)), np.eye(3)).complete(*rows)
