"""Latent classes of incomplete rows of levels, held against Bayes' rule in float64."""

from itertools import pairwise

import numpy as np
import pytest

from tests import tolerances
from vsae_fast.latent_classes import CLASS_PRIOR, LEVEL_PRIOR, LatentClasses, fit, level_probabilities


def case(n_rows, widths, n_classes=3, seed=0, hidden=0.5):
    """Classes, rows of theirs, whole and with holes, and each row's class."""
    rng = np.random.default_rng(seed)
    starts = np.concatenate([[0], np.cumsum(widths)]).astype(np.int32)
    level = np.concatenate([rng.dirichlet(np.full(width, 0.4), n_classes).T for width in widths]) + 1e-3
    for first, last in pairwise(starts):
        level[first:last] /= level[first:last].sum(0)
    classes = LatentClasses(starts, rng.dirichlet(np.full(n_classes, 3.0)), level)
    own = rng.choice(n_classes, size=n_rows, p=classes.weight)
    whole = np.stack(
        [[rng.choice(last - first, p=level[first:last, k]) for k in own] for first, last in pairwise(starts)],
        axis=1,
    ).reshape(n_rows, len(widths))
    incomplete = np.where(rng.random(whole.shape) < hidden, -1, whole).astype(np.int32)
    return classes, whole.astype(np.int32), incomplete, own


def one_hot(rows, starts):
    """Encoded rows and where they are observed; what is unobserved holds NaN, which would show if it were read."""
    attribute = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    observed = rows[:, attribute] >= 0
    x = rows[:, attribute] == np.arange(starts[-1]) - starts[attribute]
    return np.where(observed, x, np.nan).astype(np.float32), observed


def probabilities(classes, rows, n_threads=1):
    return level_probabilities((classes,), *one_hot(rows, classes.starts), n_threads)


def posterior(classes, row, negligible=0.0):
    """Bayes' rule: the classes' probabilities, and that of the levels which the row has.

    Classes that are less likely than the likeliest one by more than a factor count as none.
    """
    joint = classes.weight.copy()
    for attribute, level in enumerate(row):
        if level >= 0:
            joint *= classes.level[classes.starts[attribute] + level]
    joint[joint < negligible * joint.max()] = 0
    return joint / joint.sum(), joint.sum()


SHAPES = [(1, (2,), 1), (3, (1, 4), 2), (65, (2, 3, 7), 5), (300, (2,) * 13, 33), (40, (12,) * 11, 70)]


@pytest.mark.parametrize(("n_rows", "widths", "n_classes"), SHAPES)
@pytest.mark.parametrize("hidden", [0.1, 0.5, 0.9])
def test_counts_match_bayes_rule(n_rows, widths, n_classes, hidden):
    classes, _, rows, _ = case(n_rows, widths, n_classes, hidden=hidden)
    rows[0] = -1
    in_class, with_level, evidence = np.zeros(n_classes), np.zeros_like(classes.level), 0.0
    for row in rows:
        own, likelihood = posterior(classes, row, np.exp(-20))
        with_level[(classes.starts[:-1] + row)[row >= 0]] += own
        in_class += own
        evidence += np.log(likelihood)
    for found, sums in zip(classes.counts(rows), (in_class, with_level, evidence), strict=True):
        np.testing.assert_allclose(found, sums, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("n_rows", "widths", "n_classes"), SHAPES)
@pytest.mark.parametrize(("n_mixtures", "hidden"), [(1, 0.1), (1, 0.5), (1, 0.9), (3, 0.5)])
def test_probabilities_match_bayes_rule(n_rows, widths, n_classes, n_mixtures, hidden, level):
    """Exact classes: those which the kernel counts as none are below its precision."""
    mixtures = [case(1, widths, n_classes, seed)[0] for seed in range(n_mixtures)]
    _, _, rows, _ = case(n_rows, widths, n_classes, hidden=hidden)
    rows[0] = -1
    expected = [np.mean([own.level @ posterior(own, row)[0] for own in mixtures], axis=0) for row in rows]
    x, observed = one_hot(rows, mixtures[0].starts)
    found = level_probabilities(mixtures, x, observed)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[observed], x[observed])
    error = np.where(observed, 0, found - expected)
    assert np.abs(error).max() < tolerances.PROBABILITY


def test_many_attributes_do_not_underflow(level):
    classes, whole, _, own = case(20, (9,) * 900, n_classes=2)
    rows = whole.copy()
    rows[:, 0] = -1
    found = probabilities(classes, rows)[:, :9]
    likelihood = np.prod([classes.level[classes.starts[a] + level, 0] for a, level in enumerate(whole[0])])
    assert likelihood == 0  # it is below the smallest double
    np.testing.assert_allclose(found, classes.level[:9, own].T, atol=tolerances.PROBABILITY)


def test_rows_and_threads_change_no_bit(level):
    classes, _, rows, _ = case(3001, (2, 5, 3, 9), n_classes=7)
    whole, counts = probabilities(classes, rows), classes.counts(rows)
    for n_threads in (2, 5):
        np.testing.assert_array_equal(probabilities(classes, rows, n_threads), whole)
        for own, other in zip(classes.counts(rows, n_threads), counts, strict=True):
            np.testing.assert_array_equal(own, other)
    for i in (0, 17, 3000):
        np.testing.assert_array_equal(probabilities(classes, rows[i : i + 1])[0], whole[i])
    x, observed = one_hot(rows, classes.starts)
    columns_first = np.asfortranarray(x), np.asfortranarray(observed)
    np.testing.assert_array_equal(level_probabilities((classes,), *columns_first), whole)
    assert probabilities(classes, rows[:0]).shape == (0, 19)
    assert classes.counts(rows[:0])[2] == 0


def objective(classes, rows, frequency):
    """What the fit raises: log-likelihood of the observed levels and its priors' terms."""
    prior = (
        CLASS_PRIOR * np.log(classes.weight).sum() + LEVEL_PRIOR * (frequency[:, None] * np.log(classes.level)).sum()
    )
    return sum(np.log(posterior(classes, row)[1]) for row in rows) + prior


def test_the_fit_is_a_maximum():
    truth, _, rows, _ = case(800, (2, 3, 4, 2, 5), hidden=0.3)
    found = fit(rows, truth.starts, 3, seed=1)
    counts = np.bincount((truth.starts[:-1] + rows)[rows >= 0], minlength=16) + 1e-3
    frequency = counts / np.repeat(np.add.reduceat(counts, truth.starts[:-1]), np.diff(truth.starts))
    best = objective(found, rows, frequency)
    assert best > objective(truth, rows, frequency)
    rng = np.random.default_rng(3)
    for _ in range(10):
        level = found.level * np.exp(rng.normal(size=found.level.shape) * 0.05)
        level /= np.repeat(np.add.reduceat(level, truth.starts[:-1], axis=0), np.diff(truth.starts), axis=0)
        weight = found.weight * np.exp(rng.normal(size=3) * 0.05)
        near = LatentClasses(truth.starts, weight / weight.sum(), level)
        assert objective(near, rows, frequency) < best + 0.5  # it ends where an iteration brings little
    np.testing.assert_allclose(found.weight.sum(), 1)
    np.testing.assert_allclose(np.add.reduceat(found.level, truth.starts[:-1], axis=0), 1)


def test_fitted_classes_are_those_that_rows_were_drawn_from():
    truth, whole, rows, _ = case(4000, (3,) * 12, hidden=0.3)
    found = fit(rows, truth.starts, 3, seed=0)
    hidden = np.repeat(rows < 0, 3, axis=1)
    truly = np.eye(3)[whole].reshape(len(whole), -1)
    errors = [((probabilities(c, rows) - truly)[hidden] ** 2).mean() for c in (truth, found)]
    assert errors[1] < 1.02 * errors[0]
    for n_threads in (2, 3):
        again = fit(rows, truth.starts, 3, seed=0, n_threads=n_threads)
        for own, other in zip(again, found, strict=True):
            np.testing.assert_array_equal(own, other)
    assert not np.array_equal(fit(rows, truth.starts, 3, seed=1).weight, found.weight)


def test_levels_that_no_row_has_keep_a_probability():
    rows = np.array([[0, -1], [0, 2], [0, 2], [-1, 2]] * 20, dtype=np.int32)
    found = fit(rows, np.array([0, 2, 5], dtype=np.int32), 2, seed=0)
    assert (found.level > 0).all()
    assert (probabilities(found, rows)[:, [0, 4]] > 0.99).all()


@pytest.mark.parametrize(
    ("levels", "told"),
    [
        (np.zeros((3, 3), np.int32), r"levels must have shape \(N, 2\), got \(3, 3\)"),
        (np.zeros(2, np.int32), r"levels must have shape \(N, 2\), got \(2,\)"),
        (np.array([[0, 3]], np.int32), "counted from 0 within their attribute, -1 where unobserved"),
        (np.array([[-2, 0]], np.int32), "counted from 0 within their attribute"),
    ],
)
def test_wrong_rows_are_refused(levels, told):
    starts = np.array([0, 2, 5], dtype=np.int32)
    classes = LatentClasses(starts, np.array([0.5, 0.5]), np.full((5, 2), 0.3))
    with pytest.raises(ValueError, match=told):
        classes.counts(levels)


def test_wrong_shapes_are_refused():
    starts, weight = np.array([0, 2, 5], dtype=np.int32), np.array([0.5, 0.5])
    classes = LatentClasses(starts, weight, np.full((5, 2), 0.3))
    told = r"level must have shape \(5, 2\) by starts and weight, got \(4, 2\)"
    wrong = LatentClasses(starts, weight, np.full((4, 2), 0.3))
    x, observed = np.zeros((3, 5), np.float32), np.ones((3, 5), bool)
    with pytest.raises(ValueError, match=told):
        wrong.counts(np.zeros((3, 2), np.int32))
    with pytest.raises(ValueError, match=told):
        level_probabilities((wrong,), x, observed)
    for other in (
        LatentClasses(starts, np.full(3, 1 / 3), np.full((5, 3), 0.3)),
        LatentClasses(np.array([0, 1, 5], dtype=np.int32), weight, np.full((5, 2), 0.3)),
    ):
        with pytest.raises(ValueError, match="mixtures must have the same attributes and as many classes each"):
            level_probabilities((classes, other), x, observed)
    for own, seen in ((x[:, :4], observed[:, :4]), (x, observed[:2]), (x[0], observed[0])):
        with pytest.raises(ValueError, match=r"x and observed must have shape \(N, 5\), got"):
            level_probabilities((classes,), own, seen)
