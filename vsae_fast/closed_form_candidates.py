"""Closed-form members that validation chooses from, fitted to rows of the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from vsae_fast import gaussian_mixture, latent_classes, normal_scores
from vsae_fast.class_member import ClassMember, levels_of
from vsae_fast.closed_form_member import ClosedFormMember, number_columns
from vsae_fast.gaussian_member import GaussianMember
from vsae_fast.gaussian_mixture import Array, BoolArray
from vsae_fast.normal_scores import IntArray
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.presets import Preset

# Rows' worth of independence: columns that nearly follow from others want little, few rows of many columns much.
PRIORS = (32.0, 8.0, 2.0)
PLAIN = 1.05  # scores have to gain a twentieth more than numbers: where the two are alike, the simpler one is kept
CLASSES, COMPONENTS = (8, 64), (4, 16, 64)  # few rows want few of them
ROWS_OF_COMPONENT = 10
MIXTURES = 3  # from different starts, which err differently
# Where probabilities of classes are the better ones, squared errors ask for nothing else, as on mushroom; the likeliest
# level is wrong least often by the average.
MOST_OF_CLASSES = 0.5
# Rows that they are fitted on: moments settle sooner than networks do, rare classes later.
MOST_ROWS, MOST_CLASS_ROWS = 4000, 20_000

Rows = npt.NDArray[np.intp]


class Candidate(NamedTuple):
    """Member with shares of 1, its largest share, its gain's weight in the choice, and its fit to other rows.

    ``refined`` fits what is worth a try beside it where it is the best.
    """

    member: ClosedFormMember
    most_share: float
    weight: float
    fitted_to: Callable[[Rows], ClosedFormMember]
    refined: Callable[[], list[Candidate]] | None = None


class Standardised(NamedTuple):
    """Columns over the deviation of their observed cells, 0 elsewhere; which are observed; means and deviations."""

    values: Array
    observed: BoolArray
    centre: Array
    scale: Array


def candidates(
    preset: Preset, layout: AttributeLayout, x: torch.Tensor, mask: torch.Tensor, rows: Rows, n_threads: int
) -> list[Candidate]:
    """Members of the kind that the preset has, fitted to some of the rows.

    Parameters
    ----------
    preset : Preset
        That has some.
    layout : AttributeLayout
    x : torch.Tensor, shape (N, D)
    mask : torch.Tensor, shape (N, M)
        1 = observed.
    rows : numpy.ndarray of int
        In a random order, as large tables need only the first.
    n_threads : int
    """
    if preset.closed_form == "gaussian":
        return _gaussians(layout, _standardised(x, mask, layout), rows, n_threads)
    observed = layout.expand(mask).cpu().numpy() > 0
    return _of_classes(layout, levels_of(layout, x.cpu().numpy(), observed), rows, n_threads)


def _standardised(x: torch.Tensor, mask: torch.Tensor, layout: AttributeLayout) -> Standardised:
    """Columns of mean 0 and variance 1 by their observed cells."""
    values, observed = x.cpu().double().numpy(), layout.expand(mask).cpu().numpy() > 0
    count = np.maximum(observed.sum(0), 1)
    centre = np.where(observed, values, 0).sum(0) / count
    scale = np.sqrt((np.where(observed, values - centre, 0) ** 2).sum(0) / count)
    scale[scale == 0] = 1
    return Standardised(np.where(observed, (values - centre) / scale, 0), observed, centre, scale)


def _gaussians(layout: AttributeLayout, table: Standardised, rows: Rows, n_threads: int) -> list[Candidate]:
    """Normal distributions of the numbers themselves and of their scores; of the best one there are mixtures."""
    start = (gaussian_mixture.independent(layout.n_columns),)
    starts = [GaussianMember(layout, 1.0, 1.0, start, table.centre, table.scale, n_threads=n_threads)]
    numbers = number_columns(layout)
    if len(numbers):
        starts.append(replace(starts[0], curves=normal_scores.fit(table.values, table.observed, numbers)))
    found = []
    for member in starts:
        for prior in PRIORS:  # one begins where the one before has ended
            member = _normal(member, table, prior, rows)
            weight = PLAIN if member.curves is None else 1.0
            refined = partial(_with_components, member, table, prior, weight, rows)
            found.append(Candidate(member, 1.0, weight, partial(_normal, member, table, prior), refined))
    return found


def _normal(member: GaussianMember, table: Standardised, prior: float, rows: Rows) -> GaussianMember:
    """Another normal distribution, which begins with the member's own."""
    rows = rows[:MOST_ROWS]
    scores = member.scores(table.values[rows])
    own = gaussian_mixture.fit(scores, table.observed[rows], prior, member.mixtures[0], member.n_threads)
    return replace(member, mixtures=(own,))


def _with_components(
    member: GaussianMember, table: Standardised, prior: float, weight: float, rows: Rows
) -> list[Candidate]:
    """Mixtures of few and of many components, with the prior and the scores of the member."""
    numbers = [n for n in COMPONENTS if n * ROWS_OF_COMPONENT <= len(rows)]
    makers = [partial(_mixtures, member, table, prior, n_components) for n_components in numbers]
    return [Candidate(maker(rows), 1.0, weight, maker) for maker in makers]


def _mixtures(
    member: GaussianMember, table: Standardised, prior: float, n_components: int, rows: Rows
) -> GaussianMember:
    """Mixtures in place of the member's normal distribution, which tells where they begin."""
    rows = rows[:MOST_ROWS]
    scores, observed = member.scores(table.values[rows]), table.observed[rows]
    (normal,) = member.mixtures
    own = []
    for seed in range(MIXTURES):
        start = gaussian_mixture.split(normal, scores, observed, prior, n_components, seed, member.n_threads)
        own.append(gaussian_mixture.fit(scores, observed, prior, start, member.n_threads))
    return replace(member, mixtures=tuple(own))


def _of_classes(layout: AttributeLayout, levels: IntArray, rows: Rows, n_threads: int) -> list[Candidate]:
    """Latent classes, few and many."""
    makers = [partial(_classes, layout, levels, n_classes, n_threads) for n_classes in CLASSES]
    return [Candidate(maker(rows), MOST_OF_CLASSES, PLAIN, maker) for maker in makers]


def _classes(layout: AttributeLayout, levels: IntArray, n_classes: int, n_threads: int, rows: Rows) -> ClassMember:
    starts, own = np.array(layout.starts, dtype=np.int32), levels[rows[:MOST_CLASS_ROWS]]
    mixtures = tuple(latent_classes.fit(own, starts, n_classes, seed, n_threads) for seed in range(MIXTURES))
    return ClassMember(layout, 1.0, 1.0, mixtures, n_threads=n_threads)
