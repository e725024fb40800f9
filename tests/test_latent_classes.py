"""Latent classes of incomplete rows of levels, held against Bayes' rule in float64."""

import math
from itertools import pairwise

import numpy as np
import pytest

from vsae_fast.latent_classes import CLASS_PRIOR, LEVEL_PRIOR, LatentClasses, fit

NEGLIGIBLE = math.exp(-20)


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


def posterior(classes, row, negligible=NEGLIGIBLE):
    """Bayes' rule: the classes' probabilities, and that of the levels which the row has.

    Classes that are less likely than the likeliest one by more than a factor count as none.
    """
    joint = classes.weight.copy()
    for attribute, level in enumerate(row):
        if level >= 0:
            joint *= classes.level[classes.starts[attribute] + level]
    joint[joint < negligible * joint.max()] = 0
    return joint / joint.sum(), joint.sum()


@pytest.mark.parametrize(
    ("n_rows", "widths", "n_classes"), [(1, (2,), 1), (3, (1, 4), 2), (65, (2, 3, 7), 5), (300, (2,) * 13, 33)]
)
@pytest.mark.parametrize("hidden", [0.1, 0.5, 0.9])
def test_probabilities_and_counts_match_bayes_rule(n_rows, widths, n_classes, hidden):
    classes, _, rows, _ = case(n_rows, widths, n_classes, hidden=hidden)
    rows[0] = -1
    expected, in_class, with_level, evidence = [], np.zeros(n_classes), np.zeros_like(classes.level), 0.0
    for row in rows:
        own, likelihood = posterior(classes, row)
        probability = classes.level @ own
        for attribute, level in enumerate(row):
            if level >= 0:
                place = classes.starts[attribute] + level
                probability[classes.starts[attribute] : classes.starts[attribute + 1]] = 0
                probability[place] = 1
                with_level[place] += own
        expected.append(probability)
        in_class += own
        evidence += np.log(likelihood)
    np.testing.assert_allclose(classes.probabilities(rows), expected, rtol=1e-10, atol=1e-12)
    counts = classes.counts(rows)
    for found, sums in zip(counts, (in_class, with_level, evidence), strict=True):
        np.testing.assert_allclose(found, sums, rtol=1e-10, atol=1e-12)


def test_what_is_left_out_is_below_the_precision_of_the_result():
    classes, _, rows, _ = case(200, (3,) * 10, n_classes=64)
    exact = np.stack([classes.level @ posterior(classes, row, 0)[0] for row in rows])
    error = np.abs(classes.probabilities(rows) - exact)[np.repeat(rows < 0, 3, axis=1)]
    assert 0 < error.max() < np.finfo(np.float32).eps


def test_many_attributes_do_not_underflow():
    classes, whole, _, own = case(20, (9,) * 900, n_classes=2)
    rows = whole.copy()
    rows[:, 0] = -1
    found = classes.probabilities(rows)[:, :9]
    likelihood = np.prod([classes.level[classes.starts[a] + level, 0] for a, level in enumerate(whole[0])])
    assert likelihood == 0  # it is below the smallest double
    np.testing.assert_allclose(found, classes.level[:9, own].T, atol=1e-12)


def test_rows_and_threads_change_no_bit():
    classes, _, rows, _ = case(3001, (2, 5, 3, 9), n_classes=7)
    whole, counts = classes.probabilities(rows), classes.counts(rows)
    for n_threads in (2, 5):
        np.testing.assert_array_equal(classes.probabilities(rows, n_threads), whole)
        for own, other in zip(classes.counts(rows, n_threads), counts, strict=True):
            np.testing.assert_array_equal(own, other)
    for i in (0, 17, 3000):
        np.testing.assert_array_equal(classes.probabilities(rows[i : i + 1])[0], whole[i])
    np.testing.assert_array_equal(classes.probabilities(np.asfortranarray(rows)), whole)
    assert classes.probabilities(rows[:0]).shape == (0, 19)
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
    one_hot = np.eye(3)[whole].reshape(len(whole), -1)
    errors = [((c.probabilities(rows) - one_hot)[hidden] ** 2).mean() for c in (truth, found)]
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
    assert (found.probabilities(rows)[:, [0, 4]] > 0.99).all()


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
        classes.probabilities(levels)
    with pytest.raises(ValueError, match=r"level must have shape \(5, 2\) by starts and weight, got \(4, 2\)"):
        LatentClasses(starts, np.array([0.5, 0.5]), np.full((4, 2), 0.3)).counts(levels)
