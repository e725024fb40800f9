"""Closed-form members that validation chooses from, fitted to rows of the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from vsae_fast import joint_gaussian, latent_classes, normal_scores
from vsae_fast.class_member import ClassMember, levels_of
from vsae_fast.closed_form_member import ClosedFormMember, number_columns
from vsae_fast.joint_gaussian import Array, BoolArray
from vsae_fast.linear_member import LinearMember
from vsae_fast.normal_scores import IntArray
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.presets import Preset

# Rows' worth of independence: columns that nearly follow from others want little, few rows of many columns much.
PRIORS = (32.0, 8.0, 2.0)
PLAIN = 1.05  # scores have to gain a twentieth more than numbers: where the two are alike, the simpler one is kept
CLASSES, MIXTURES = (8, 64), 3  # few rows want few classes; mixtures from different starts err differently
# Where probabilities of classes are the better ones, squared errors ask for nothing else, as on mushroom; the likeliest
# level is wrong least often by the average.
MOST_OF_CLASSES = 0.5
# Rows that they are fitted on: moments settle sooner than networks do, rare classes later.
MOST_ROWS, MOST_CLASS_ROWS = 4000, 20_000

Rows = npt.NDArray[np.intp]


class Candidate(NamedTuple):
    """Member with shares of 1, its largest share, its gain's weight in the choice, and its fit to other rows."""

    member: ClosedFormMember
    most_share: float
    weight: float
    fitted_to: Callable[[Rows], ClosedFormMember]


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
    if preset.closed_form == "linear":
        return _linear(layout, _standardised(x, mask, layout), rows, n_threads)
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


def _linear(layout: AttributeLayout, table: Standardised, rows: Rows, n_threads: int) -> list[Candidate]:
    """Normal distributions of the numbers themselves and of their scores."""
    start = joint_gaussian.independent(layout.n_columns)
    starts = [LinearMember(layout, 1.0, 1.0, start, table.centre, table.scale, n_threads=n_threads)]
    numbers = number_columns(layout)
    if len(numbers):
        starts.append(replace(starts[0], curves=normal_scores.fit(table.values, table.observed, numbers)))
    found = []
    for member in starts:
        for prior in PRIORS:  # one begins where the one before has ended
            member = _normal(member, table, prior, rows)
            weight = PLAIN if member.curves is None else 1.0
            found.append(Candidate(member, 1.0, weight, partial(_normal, member, table, prior)))
    return found


def _normal(member: LinearMember, table: Standardised, prior: float, rows: Rows) -> LinearMember:
    """Another normal distribution, which begins with the member's own."""
    rows = rows[:MOST_ROWS]
    scores = member.scores(table.values[rows])
    gaussian = joint_gaussian.fit(scores, table.observed[rows], prior, member.gaussian, member.n_threads)
    return replace(member, gaussian=gaussian)


def _of_classes(layout: AttributeLayout, levels: IntArray, rows: Rows, n_threads: int) -> list[Candidate]:
    """Latent classes, few and many."""
    makers = [partial(_classes, layout, levels, n_classes, n_threads) for n_classes in CLASSES]
    return [Candidate(maker(rows), MOST_OF_CLASSES, PLAIN, maker) for maker in makers]


def _classes(layout: AttributeLayout, levels: IntArray, n_classes: int, n_threads: int, rows: Rows) -> ClassMember:
    starts, own = np.array(layout.starts, dtype=np.int32), levels[rows[:MOST_CLASS_ROWS]]
    mixtures = tuple(latent_classes.fit(own, starts, n_classes, seed, n_threads) for seed in range(MIXTURES))
    return ClassMember(layout, 1.0, 1.0, mixtures, n_threads=n_threads)
