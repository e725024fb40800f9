"""What an ensemble's validation rows decide after its training: the closed-form member's share, and how wide draws are.

Every network has validation rows of its own, which its seed names. A tenth of their known cells is hidden at a time, as
little as imputation itself lacks beside what it knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from vsae_fast.calibration import LARGEST, spread_moments
from vsae_fast.closed_form_candidates import Candidate, candidates
from vsae_fast.closed_form_member import ClosedFormMember
from vsae_fast.gaussian_mixture import Array, BoolArray, FloatArray
from vsae_fast.hidden_cells import ROWS, impute_hidden_cells
from vsae_fast.models.vsae import VSAE
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.presets import Preset
from vsae_fast.training import History, split_and_seed, visible_weight

HIDDEN_SHARE, SAMPLES, PATTERNS = 0.1, 30, 16
# Few cells say little of the share: it is drawn towards this one by as much as so many hidden cells of it would.
TYPICAL_SHARE, PRIOR_CELLS = 0.3, 150.0
MOST_SPLITS = 3  # whose validation rows are kept from the members that are tried on them

Splits = dict[int, tuple[torch.Tensor, torch.Tensor, int]]  # training rows, validation rows, seed of their noise


class Cells(NamedTuple):
    """Hidden cells of some rows: true values, the networks', which are hidden and which visible, each (N, D)."""

    known: FloatArray
    networks: FloatArray
    hidden: BoolArray
    visible: BoolArray


class Choice(NamedTuple):
    """A candidate, its weighted gain on hidden cells, and its shares of numbers and of levels there."""

    candidate: Candidate
    gain: float
    shares: tuple[float, float]


class Share(NamedTuple):
    """Of the closed-form member in the average, and how much less squared error that has on hidden cells."""

    share: float
    gain: float


def validate(
    models: Sequence[VSAE],
    histories: Sequence[History],
    preset: Preset,
    x: torch.Tensor,
    mask: torch.Tensor,
    n_threads: int = 1,
) -> ClosedFormMember | None:
    """Choose the closed-form member by the networks' validation rows, and measure there how wide draws must be.

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
    ClosedFormMember or None
        None where the preset has none, where it brings nothing, or without validation rows. For the widths of draws it
        is fitted without the validation rows of three seeds; those of further ones are few.
    """
    splits = {
        history.seed: split_and_seed(len(x), preset.plan, torch.Generator(x.device).manual_seed(history.seed))
        for history in histories
    }
    final = tried = None
    if preset.closed_form and all(len(rows) for _, rows, _ in splits.values()):
        final, tried = _closed_form_member(models, histories, preset, x, mask, splits, n_threads)
    weight = visible_weight(preset.objective)
    for model, history in zip(models, histories, strict=True):
        _, rows, seed = splits[history.seed]
        if len(rows) and history.epoch:
            history.spread = spread_moments(model, x[rows], mask[rows], weight, seed, tried)
    return final


def _closed_form_member(
    models: Sequence[VSAE],
    histories: Sequence[History],
    preset: Preset,
    x: torch.Tensor,
    mask: torch.Tensor,
    splits: Splits,
    n_threads: int,
) -> tuple[ClosedFormMember | None, ClosedFormMember | None]:
    """The member fitted to all rows, and the one that has seen no validation row of those that it is tried on."""
    layout = models[0].layout
    seeds = list(splits)[:MOST_SPLITS]
    rows = np.random.default_rng(seeds[0]).permutation(len(x))
    held = np.zeros(len(x), dtype=bool)
    for seed in seeds:
        held[splits[seed][1].cpu().numpy()[:ROWS]] = True
    found = candidates(preset, layout, x, mask, rows[~held[rows]], n_threads)

    cells: Iterable[Cells] = _hidden_cells(models, histories, preset, x, mask, {seed: splits[seed] for seed in seeds})
    if any(candidate.refined for candidate in found):
        cells = list(cells)  # for another look
    choice = _choose(found, layout, cells)
    refined = choice.candidate.refined() if choice.candidate.refined else []
    if refined:
        choice = max(choice, _choose(refined, layout, cells), key=lambda c: c.gain)
    of_numbers, of_levels = choice.shares
    if of_numbers == of_levels == 0:
        return None, None
    final, tried = (
        replace(member, number_share=of_numbers, level_share=of_levels)
        for member in (choice.candidate.fitted_to(rows), choice.candidate.member)
    )
    return final, tried


def _choose(found: Sequence[Candidate], layout: AttributeLayout, cells: Iterable[Cells]) -> Choice:
    """The candidate that gains most on hidden cells, by its weight."""
    numerical = layout.numerical_columns(torch.device("cpu")).numpy()
    sums = _sums([candidate.member for candidate in found], layout, cells)
    choices = []
    for candidate, own in zip(found, sums, strict=True):
        kinds = [_share(own[which].sum(0), candidate.most_share) for which in (numerical, ~numerical)]
        gain = candidate.weight * sum(kind.gain for kind in kinds)
        choices.append(Choice(candidate, gain, (kinds[0].share, kinds[1].share)))
    return max(choices, key=lambda choice: choice.gain)


def _hidden_cells(
    models: Sequence[VSAE],
    histories: Sequence[History],
    preset: Preset,
    x: torch.Tensor,
    mask: torch.Tensor,
    splits: Splits,
) -> Iterator[Cells]:
    """Hidden cells of validation rows, and what the networks whose validation rows they are expect there."""
    layout = models[0].layout
    weight = visible_weight(preset.objective)
    for split_seed, (_, rows, seed) in splits.items():
        passes = [
            impute_hidden_cells(
                model, x[rows], mask[rows], weight, seed, share=HIDDEN_SHARE, n_samples=SAMPLES, n_patterns=PATTERNS
            )
            for model, history in zip(models, histories, strict=True)
            if history.seed == split_seed
        ]
        for cells in zip(*passes, strict=True):  # the same cells of every network: they share their seed
            yield Cells(
                cells[0].x.cpu().numpy(),
                np.mean([cell.result.imputed.cpu().numpy() for cell in cells], axis=0),
                layout.expand(cells[0].hidden).cpu().numpy() > 0,
                layout.expand(cells[0].visible).cpu().numpy() > 0,
            )


def _sums(members: Sequence[ClosedFormMember], layout: AttributeLayout, cells: Iterable[Cells]) -> Array:
    """By member and column what :func:`_share` wants, shape (members, D, 3)."""
    sums = np.zeros((len(members), layout.n_columns, 3))
    first = np.isin(np.arange(layout.n_columns), layout.starts)
    for known, networks, hidden, visible in cells:
        error = np.clip(known - networks, -LARGEST, LARGEST)
        for member, own in zip(members, sums, strict=True):
            otherwise = member.expected(known, visible) - networks
            own[:, 0] += np.where(hidden, error * otherwise, 0).sum(0, dtype=np.float64)
            own[:, 1] += np.where(hidden, otherwise**2, 0).sum(0, dtype=np.float64)
            own[:, 2] += np.where(first, hidden.sum(0), 0)
    return sums


def _share(sums: Array, most: float = 1.0) -> Share:
    """Least squares with a prior, held between 0 and ``most``, and never so large that the cells themselves see a loss.

    Parameters
    ----------
    sums : numpy.ndarray, shape (3,)
        Over hidden cells: products of the networks' errors with what the member says otherwise, squares of the
        latter, and how many cells.
    most : float
        Largest share.
    """
    product, square, n_cells = sums.tolist()
    if square <= 0:
        return Share(0.0, 0.0)
    prior = PRIOR_CELLS * square / n_cells
    share = min((product + prior * TYPICAL_SHARE) / (square + prior), 2 * product / square)
    share = min(max(share, 0.0), most)
    return Share(share, 2 * share * product - share**2 * square)
