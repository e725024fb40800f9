"""Several networks of one recipe, averaged at imputation; a draw comes from one of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from vsae_fast.closed_form_member import ClosedFormMember
from vsae_fast.imputation import RowImputer
from vsae_fast.ops.importance_impute import Imputation
from vsae_fast.ops.philox import uniforms
from vsae_fast.self_masking import SelfMasking, drawn_missing, expected_missing
from vsae_fast.training import History

MOST_STEPS = 4  # of a draw; with twelve columns and half of the cells missing, eight gain nothing


class EnsembleImputer:
    """Average of several networks' imputations; a row's result depends on nothing but the row.

    Parameters
    ----------
    members : list of RowImputer
    spread : torch.Tensor, shape (D,), optional
        What the deviations of draws from their member's expected value are multiplied by
        (:func:`vsae_fast.calibration.spread_factors`).
    drawing : sequence of int, optional
        Members that draws come from (:func:`drawing_members`); all where it is left out.
    self_masking : mapping of int to SelfMasking, optional
        Terms of numerical attributes whose cells are missing because of their own value.
    closed_form : ClosedFormMember, optional
        What the networks' values are averaged with.
    """

    def __init__(
        self,
        members: list[RowImputer],
        spread: torch.Tensor | None = None,
        drawing: Sequence[int] | None = None,
        self_masking: Mapping[int, SelfMasking] | None = None,
        closed_form: ClosedFormMember | None = None,
    ) -> None:
        self.members = members
        self._spread = spread
        self._self_masking = self_masking or {}
        self._closed_form = closed_form
        self._drawing = members if drawing is None else [members[i] for i in drawing]

    @property
    def chunk_rows(self) -> int:
        """Rows that are best imputed at once."""
        return self.members[0].chunk_rows

    def run(self, x: torch.Tensor, mask: torch.Tensor) -> Imputation:
        """Impute rows: mean of the members' means and class probabilities, the closed-form member's with its share.

        The log-evidence is that of the mixture of the members, the effective sample size their mean, and ``n_spent``
        their sum. Members have noise of their own, so that their errors average out: each may have the root of their
        number times the tolerance.
        """
        factor = math.sqrt(len(self.members))
        results = [member.run(x, mask, tolerance_factor=factor) for member in self.members]
        evidence = results[0].log_evidence
        for result in results[1:]:
            evidence = torch.logaddexp(evidence, result.log_evidence)
        imputed = _mean([result.imputed for result in results])
        if self._closed_form is not None:
            imputed = self._closed_form.blend(x, mask, imputed)
        for attribute, term in self._self_masking.items():
            rows, column = self._missing(mask, attribute)
            predicted = imputed[rows, column].double().numpy()
            imputed[rows, column] = torch.from_numpy(expected_missing(term, predicted)).float()
        return Imputation(
            imputed,
            evidence - math.log(len(results)),
            _mean([result.effective_size for result in results]),
            _sum([result.n_spent for result in results]),
            results[0].draws,
        )

    def draw(self, x: torch.Tensor, mask: torch.Tensor, number: int, first_row: int, seed: int) -> torch.Tensor:
        """Draw completed rows, shape (N, D).

        A draw comes from one member for all rows, as a draw of the parameters would: the members' differences are part
        of what is not known. Members take turns in an order that ``seed`` decides.

        A row's hidden attributes are drawn one after the other, each given those before it (:func:`drawing_steps`): a
        network with the skip path tells much of what it knows without its latents, so that cells which are drawn at
        once hardly depend on each other.

        Parameters
        ----------
        x : torch.Tensor of float32, shape (N, D)
        mask : torch.Tensor of float32, shape (N, M)
            1 = observed.
        number : int
            Of the draw.
        first_row, seed : int
            Number of the first row, and the seed; a row's draws depend on its number, the seed and the row alone.
        """
        turns = torch.randperm(len(self._drawing), generator=torch.Generator().manual_seed(seed)).tolist()
        member = self._drawing[turns[number % len(turns)]]
        order_seed, *seeds = np.random.SeedSequence([seed, number]).generate_state(1 + MOST_STEPS).tolist()
        order = torch.randperm(mask.shape[1], generator=torch.Generator().manual_seed(order_seed))
        step_of = drawing_steps(mask, order)
        x, mask = x.clone(), mask.clone()
        for step, own_seed in enumerate(seeds):
            rows = torch.nonzero((step_of == step).any(dim=1))[:, 0]
            if not len(rows):
                break
            result = member.run(x[rows], mask[rows], n_draws=1, row_id=first_row + rows, seed=own_seed)
            centre: torch.Tensor = result.imputed
            drawn: torch.Tensor = result.draws.squeeze(1)
            if self._closed_form is not None:
                centre, drawn = self._closed_form.blend_draws(
                    x[rows], mask[rows], centre, drawn, own_seed, first_row + rows
                )
            if self._spread is not None:
                drawn = centre + self._spread * (drawn - centre)
            for attribute, term in self._self_masking.items():
                missing, column = self._missing(mask[rows], attribute)
                uniform = uniforms(own_seed + ((attribute + 1) << 32), first_row + rows[missing], 1, 1)[:, 0, 0]
                predicted = centre[missing, column].double().numpy()
                drawn[missing, column] = torch.from_numpy(drawn_missing(term, predicted, uniform.numpy())).float()
            now = step_of[rows] == step
            x[rows] = torch.where(member.layout.expand(now.to(mask.dtype)) > 0, drawn, x[rows])
            mask[rows] = torch.where(now, 1.0, mask[rows])
        return x

    def _missing(self, mask: torch.Tensor, attribute: int) -> tuple[torch.Tensor, int]:
        """Rows that lack a numerical attribute, and its column."""
        return torch.nonzero(mask[:, attribute] == 0)[:, 0].cpu(), self.members[0].layout.starts[attribute]


def drawing_members(histories: Sequence[History]) -> list[int]:
    """Members whose weight decay is the least of all that validation has kept.

    A stronger one shrinks what a column is told by the others. An average of networks gains by that, as errors of
    estimation shrink as well; a draw, which comes from one network, loses dependence between the columns and nothing
    else.

    Examples
    --------
    >>> drawing_members([History(weight_decay=0.3), History(weight_decay=0.1), History(weight_decay=0.1)])
    [1, 2]
    """
    least = min(history.weight_decay for history in histories)
    return [i for i, history in enumerate(histories) if history.weight_decay == least]


def drawing_steps(mask: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """When each hidden attribute of each row is drawn: one at a step, or as many as make ``MOST_STEPS`` steps of all.

    Parameters
    ----------
    mask : torch.Tensor, shape (N, M)
        1 = observed.
    order : torch.Tensor of int64, shape (M,)
        A permutation of the attributes, which they are drawn in.

    Returns
    -------
    torch.Tensor of int64, shape (N, M)
        -1 where nothing is to be drawn.

    Examples
    --------
    >>> drawing_steps(torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 1.0]]), torch.tensor([2, 1, 0]))
    tensor([[ 1, -1,  0],
            [-1, -1, -1]])
    """
    hidden = mask[:, order] == 0
    n_hidden = hidden.sum(1, keepdim=True)
    place = hidden.cumsum(1) - 1
    step = torch.where(n_hidden <= MOST_STEPS, place, place * MOST_STEPS // n_hidden.clamp(min=1))
    result = torch.empty_like(step)
    result[:, order] = torch.where(hidden, step, -1)
    return result


def _mean(tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.from_numpy(_sum(tensors).numpy() / np.float32(len(tensors)))


def _sum(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Sum of tensors on the CPU, member after member: torch's reductions add in an order that depends on the shape.

    And in numpy, on one thread: torch would wake its pool for it, whose threads then spin for milliseconds beside the
    kernels' own (measured: the imputation of an ensemble took a third longer).
    """
    total = tensors[0].numpy().copy()
    for tensor in tensors[1:]:
        total += tensor.numpy()
    return torch.from_numpy(total)
