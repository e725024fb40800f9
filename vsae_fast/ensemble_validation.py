"""What an ensemble's validation rows decide after its training: the linear member's share, and how wide draws are.

Every network has validation rows of its own, which its seed names. A tenth of their known cells is hidden at a time, as
little as imputation itself lacks beside what it knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from vsae_fast import normal_scores
from vsae_fast.calibration import LARGEST, spread_moments
from vsae_fast.hidden_cells import ROWS, impute_hidden_cells
from vsae_fast.joint_gaussian import Array, BoolArray, fit, independent
from vsae_fast.linear_member import LinearMember, number_columns
from vsae_fast.models.vsae import VSAE
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.presets import Preset
from vsae_fast.training import History, split_and_seed, visible_weight

# Rows' worth of independence: columns that nearly follow from others want little, few rows of many columns much.
PRIORS = (32.0, 8.0, 2.0)
PLAIN = 1.05  # scores have to gain a twentieth more than numbers: where the two are alike, the simpler one is kept
HIDDEN_SHARE, SAMPLES, PATTERNS = 0.1, 30, 16
# Few cells say little of the share: it is drawn towards this one by as much as so many hidden cells of it would.
TYPICAL_SHARE, PRIOR_CELLS = 0.3, 150.0
MOST_SPLITS = 3  # whose validation rows are kept from the normal distribution that is tried on them
MOST_ROWS = 4000  # that it is fitted on; its moments settle sooner than networks do

Rows = npt.NDArray[np.intp]
Splits = dict[int, tuple[torch.Tensor, torch.Tensor, int]]  # training rows, validation rows, seed of their noise


class Share(NamedTuple):
    """Of the linear member in the average, and how much less squared error that has on hidden cells."""

    share: float
    gain: float


class Standardised(NamedTuple):
    """Columns over the deviation of their observed cells, 0 elsewhere; which are observed; means and deviations."""

    values: Array
    observed: BoolArray
    centre: Array
    scale: Array


class Candidate(NamedTuple):
    """Member with a share of 1 and the prior that it was fitted with."""

    prior: float
    member: LinearMember


def validate(
    models: Sequence[VSAE],
    histories: Sequence[History],
    preset: Preset,
    x: torch.Tensor,
    mask: torch.Tensor,
    n_threads: int = 1,
) -> LinearMember | None:
    """Choose the linear member by the networks' validation rows, and measure there how wide draws must be.

    Parameters
    ----------
    models : sequence of VSAE
        In evaluation mode.
    histories : sequence of History
        Theirs; get their ``spread``.
    preset : Preset
    x : torch.Tensor, shape (N, D)
        Encoded rows that the networks were trained on.
    mask : torch.Tensor, shape (N, M)
        1 = observed.
    n_threads : int

    Returns
    -------
    LinearMember or None
        None where the preset has none, where it brings nothing, or without validation rows. For the widths of draws it
        is fitted without the validation rows of three seeds; those of further ones are few.
    """
    splits = {
        history.seed: split_and_seed(len(x), preset.plan, torch.Generator(x.device).manual_seed(history.seed))
        for history in histories
    }
    final = tried = None
    if preset.linear_member and all(len(rows) for _, rows, _ in splits.values()):
        final, tried = _linear_member(models, histories, preset, x, mask, splits, n_threads)
    weight = visible_weight(preset.objective)
    for model, history in zip(models, histories, strict=True):
        _, rows, seed = splits[history.seed]
        if len(rows) and history.epoch:
            history.spread = spread_moments(model, x[rows], mask[rows], weight, seed, tried)
    return final


def _linear_member(
    models: Sequence[VSAE],
    histories: Sequence[History],
    preset: Preset,
    x: torch.Tensor,
    mask: torch.Tensor,
    splits: Splits,
    n_threads: int,
) -> tuple[LinearMember | None, LinearMember | None]:
    """The member fitted to all rows, and the one that has seen no validation row of those that it is tried on."""
    layout = models[0].layout
    seeds = list(splits)[:MOST_SPLITS]
    table = _standardised(x, mask, layout)
    rows = np.random.default_rng(seeds[0]).permutation(len(x))
    held = np.zeros(len(x), dtype=bool)
    for seed in seeds:
        held[splits[seed][1].cpu().numpy()[:ROWS]] = True
    training, everything = rows[~held[rows]][:MOST_ROWS], rows[:MOST_ROWS]
    candidates = _candidates(layout, table, training, n_threads)

    sums = np.zeros((len(candidates), layout.n_columns, 3))
    for seed in seeds:
        own = [model for model, history in zip(models, histories, strict=True) if history.seed == seed]
        sums += _sums(own, [candidate.member for candidate in candidates], preset, x, mask, *splits[seed][1:])
    numerical = layout.numerical_columns(torch.device("cpu")).numpy()
    shares = [[_share(own[which].sum(0)) for which in (numerical, ~numerical)] for own in sums]
    best = _best(candidates, [sum(kind.gain for kind in own) for own in shares])
    of_numbers, of_levels = (kind.share for kind in shares[best])
    if of_numbers == of_levels == 0:
        return None, None
    tried = replace(candidates[best].member, number_share=of_numbers, level_share=of_levels)
    return _fitted(tried, table, everything, candidates[best].prior), tried


def _candidates(layout: AttributeLayout, table: Standardised, rows: Rows, n_threads: int) -> list[Candidate]:
    """Normal distributions of the numbers themselves and of their scores, fitted to some of the rows."""
    start = independent(layout.n_columns)
    starts = [LinearMember(layout, start, table.centre, table.scale, 1.0, 1.0, n_threads=n_threads)]
    numbers = number_columns(layout)
    if len(numbers):
        starts.append(replace(starts[0], curves=normal_scores.fit(table.values, table.observed, numbers)))
    candidates = []
    for member in starts:
        for prior in PRIORS:  # one begins where the one before has ended
            member = _fitted(member, table, rows, prior)
            candidates.append(Candidate(prior, member))
    return candidates


def _best(candidates: Sequence[Candidate], gains: Sequence[float]) -> int:
    """Position of the largest gain, those of scores counted for less."""
    weights = [PLAIN if candidate.member.curves is None else 1.0 for candidate in candidates]
    return int(np.argmax(np.multiply(gains, weights)))


def _fitted(member: LinearMember, table: Standardised, rows: Rows, prior: float) -> LinearMember:
    """Another normal distribution, fitted to some of the rows, beginning with the member's own."""
    scores = member.scores(table.values[rows])
    return replace(member, gaussian=fit(scores, table.observed[rows], prior, member.gaussian, member.n_threads))


def _standardised(x: torch.Tensor, mask: torch.Tensor, layout: AttributeLayout) -> Standardised:
    values, observed = x.cpu().double().numpy(), layout.expand(mask).cpu().numpy() > 0
    count = np.maximum(observed.sum(0), 1)
    centre = np.where(observed, values, 0).sum(0) / count
    scale = np.sqrt((np.where(observed, values - centre, 0) ** 2).sum(0) / count)
    scale[scale == 0] = 1
    return Standardised(np.where(observed, (values - centre) / scale, 0), observed, centre, scale)


def _sums(
    models: Sequence[VSAE],
    candidates: Sequence[LinearMember],
    preset: Preset,
    x: torch.Tensor,
    mask: torch.Tensor,
    rows: torch.Tensor,
    seed: int,
) -> Array:
    """Of hidden cells, by candidate and column: what :func:`_share` wants, shape (candidates, D, 3)."""
    layout = models[0].layout
    weight = visible_weight(preset.objective)
    passes = [
        impute_hidden_cells(
            model, x[rows], mask[rows], weight, seed, share=HIDDEN_SHARE, n_samples=SAMPLES, n_patterns=PATTERNS
        )
        for model in models
    ]
    known_mask = mask[rows][:ROWS]
    sums = np.zeros((len(candidates), layout.n_columns, 3))
    first = np.isin(np.arange(layout.n_columns), layout.starts)
    for cells in zip(*passes, strict=True):  # the same cells of every network: they share their seed
        known, hidden = cells[0].x.cpu().numpy(), cells[0].hidden
        networks = np.mean([cell.result.imputed.cpu().numpy() for cell in cells], axis=0)
        where: BoolArray = layout.expand(hidden).cpu().numpy() > 0
        seen: BoolArray = layout.expand(known_mask - hidden).cpu().numpy() > 0
        error = np.clip(known - networks, -LARGEST, LARGEST)
        for candidate, own in zip(candidates, sums, strict=True):
            otherwise = candidate.expected(known, seen) - networks
            own[:, 0] += np.where(where, error * otherwise, 0).sum(0)
            own[:, 1] += np.where(where, otherwise**2, 0).sum(0)
            own[:, 2] += np.where(first, where.sum(0), 0)
    return sums


def _share(sums: Array) -> Share:
    """Least squares with a prior, held between 0 and 1, and never so large that the cells themselves see a loss.

    Parameters
    ----------
    sums : numpy.ndarray, shape (3,)
        Over hidden cells: products of the networks' errors with what the linear member says otherwise, squares of the
        latter, and how many cells.
    """
    product, square, n_cells = sums.tolist()
    if square <= 0:
        return Share(0.0, 0.0)
    prior = PRIOR_CELLS * square / n_cells
    share = min((product + prior * TYPICAL_SHARE) / (square + prior), 2 * product / square)
    share = min(max(share, 0.0), 1.0)
    return Share(share, 2 * share * product - share**2 * square)
