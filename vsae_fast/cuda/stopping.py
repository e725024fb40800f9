"""importance_impute on a GPU with a tolerance: rows that are certain enough take no further samples.

The kernel leaves the sums of every segment of samples. A round takes as many segments as those before it together, all
rows that go on at once; then every row is judged wherever the CPU would look at it, so that it spends as many samples
as there, and computes at most twice as many.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Protocol

import torch

from vsae_fast.cuda.scoring import Scoring
from vsae_fast.cuda.tables import columns_of_kind
from vsae_fast.ops.folded_decoders import FoldedDecoders
from vsae_fast.ops.layout import KIND_NAMES
from vsae_fast.ops.stopping import LOOK, SEGMENT, SEGMENTS_PER_LOOK, predicted_spreads, segments_needed

PARTIAL = 3  # floats of a run of samples beside its sums
FIRST_ROUND = SEGMENTS_PER_LOOK


class SegmentSums(Protocol):
    """Launches a kernel over segments; see :func:`vsae_fast.cuda.importance_impute.launch_segments`."""

    def __call__(
        self,
        mean: torch.Tensor,
        scale: torch.Tensor,
        x: torch.Tensor,
        mask: torch.Tensor,
        targets: torch.Tensor,
        noise: torch.Tensor,
        *,
        context: torch.Tensor | None,
        visible_weight: float,
        first: int,
        length: int,
        n_segments: int,
        log_weight: torch.Tensor | None,
    ) -> torch.Tensor:
        """Sums (N, n_segments, partial)."""


def rounds(n_segments: int) -> list[tuple[int, int]]:
    """Segments from which to which each round takes."""
    ends = [0]
    while ends[-1] < n_segments:
        ends.append(min(max(2 * ends[-1], FIRST_ROUND), n_segments))
    return list(pairwise(ends))


def run_until_precise(
    segment_sums: SegmentSums,
    scoring: Scoring,
    decoders: FoldedDecoders,
    mean: torch.Tensor,
    scale: torch.Tensor,
    x: torch.Tensor,
    mask: torch.Tensor,
    noise: torch.Tensor,
    *,
    context: torch.Tensor | None,
    visible_weight: float,
    tolerance: float,
    log_weight: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Imputed rows, log-evidence, effective size and samples spent.

    Parameters
    ----------
    segment_sums : SegmentSums
    scoring : Scoring
    decoders : FoldedDecoders
    mean, scale, x, mask, noise, context, visible_weight, log_weight
        See :func:`vsae_fast.cuda.importance_impute.run`; log-weights of samples that were not spent are -inf.
    tolerance : float
        See :func:`vsae_fast.ops.importance_impute.importance_impute`.
    """
    n_rows, n_proposals, _ = mean.shape
    per_proposal = noise.shape[0] // n_proposals
    n_segments = per_proposal // LOOK * SEGMENTS_PER_LOOK
    layout = decoders.layout
    n_levels = int(sum(width for kind, width in zip(layout.kinds, layout.widths, strict=True) if kind == "categorical"))
    n_partial = PARTIAL + decoders.output.weight.shape[1] + n_levels
    sums = x.new_zeros(n_rows, n_segments + 1, n_partial)  # the last segment is what is left over
    sums[..., 0] = -math.inf  # what is not computed has no weight
    taken = torch.full((n_rows,), n_segments + 1, dtype=torch.int64, device=x.device)
    unit = predicted_spreads(decoders, mask)
    on = torch.arange(n_rows, device=x.device)
    if log_weight is not None:
        log_weight.fill_(-math.inf)
    targets, constant = scoring.targets(x, mask)

    def compute(begin: int, end: int, length: int) -> None:
        own = None if log_weight is None else log_weight[on]
        sums[on, begin:end] = segment_sums(
            mean[on], scale[on], x[on], mask[on], targets[on], noise,
            context=None if context is None else context[on], visible_weight=visible_weight, first=begin * SEGMENT,
            length=length, n_segments=end - begin, log_weight=own,
        )  # fmt: skip
        if log_weight is not None and own is not None:
            log_weight[on] = own

    for begin, end in rounds(n_segments):
        if len(on) == 0:
            break
        compute(begin, end, SEGMENT)
        weight, square, total = _weighted(decoders, sums[on, :end])
        needed = segments_needed(weight, square, total, unit[on], tolerance, least=begin + 1)
        taken[on] = torch.where(needed > 0, needed, taken[on])
        on = on[needed == 0]
    if len(on) and per_proposal > n_segments * SEGMENT:
        compute(n_segments, n_segments + 1, per_proposal - n_segments * SEGMENT)

    spent = torch.where(taken > n_segments, per_proposal, taken * SEGMENT)
    beyond = torch.arange(n_segments + 1, device=x.device) >= taken.unsqueeze(1)
    sums[..., 0].masked_fill_(beyond, -math.inf)
    if log_weight is not None:
        position = torch.arange(noise.shape[0], device=x.device) % per_proposal
        log_weight.masked_fill_(position >= spent.unsqueeze(1), -math.inf)
    spent = spent * n_proposals
    imputed, top, weight, square = _merged(decoders, sums, x, mask)
    evidence = top.double() + weight.double().log() - spent.double().log()
    evidence += visible_weight * constant
    return imputed, evidence, weight.double() ** 2 / square.double(), spent.to(torch.int32)


def _weighted(decoders: FoldedDecoders, sums: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights, their squares and weighted values (B, N, numbers and levels) of segments (N, B, partial)."""
    factor = torch.exp(sums[..., 0] - sums[..., 0].amax(1, keepdim=True))
    weight, square = factor * sums[..., 1], factor**2 * sums[..., 2]
    values = _values(decoders, factor.unsqueeze(-1) * sums[..., PARTIAL:], weight)
    return weight.t(), square.t(), values.transpose(0, 1)


def _values(decoders: FoldedDecoders, weighted: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted columns from weighted last hidden vectors and weighted probabilities beside them, (..., D)."""
    output, layout = decoders.output, decoders.layout
    numerical, levels = (columns_of_kind(layout, kind, weighted.device) for kind in KIND_NAMES)
    n_hidden = output.weight.shape[1]
    values = weighted.new_empty(*weighted.shape[:-1], layout.n_columns)
    values[..., levels] = weighted[..., n_hidden:]
    of_numbers = weighted[..., :n_hidden] @ output.weight[numerical].t()
    values[..., numerical] = of_numbers + weight.unsqueeze(-1) * output.bias[numerical]
    return values


def _merged(
    decoders: FoldedDecoders, sums: torch.Tensor, x: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Imputed rows, what weights count relative to, their sum and that of their squares."""
    top = sums[..., 0].amax(1)
    factor = torch.exp(sums[..., 0] - top.unsqueeze(1))
    weight, square = (factor * sums[..., 1]).sum(1), (factor**2 * sums[..., 2]).sum(1)
    weighted = (factor.unsqueeze(-1) * sums[..., PARTIAL:]).sum(1)
    values = _values(decoders, weighted / weight.unsqueeze(-1), torch.ones_like(weight))
    observed = decoders.layout.expand(mask) > 0
    return torch.where(observed, x, values), top, weight, square
