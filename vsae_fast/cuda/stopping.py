"""importance_impute of csrc/cuda with a tolerance: rows that are certain enough take no further samples.

The kernel leaves the sums of every segment of samples. A round takes as many segments as those before it together, all
rows that go on at once; then every row is looked at after each of its segments, so that it spends as many samples as on
the CPU, and computes at most twice as many.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch

from vsae_fast.cuda.compiler import Launch
from vsae_fast.cuda.importance_impute import PARTIAL, CudaModel, launch_segments
from vsae_fast.ops.elbo import HALF_LOG_TWO_PI
from vsae_fast.ops.stopping import SEGMENT, segments_needed

FIRST_ROUND = 2  # segments


def rounds(n_segments: int) -> list[tuple[int, int]]:
    """Segments from which to which each round takes."""
    ends = [0]
    while ends[-1] < n_segments:
        ends.append(min(max(2 * ends[-1], FIRST_ROUND), n_segments))
    return list(pairwise(ends))


def run_until_precise(
    launch: Launch,
    model: CudaModel,
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
    launch, model, mean, scale, x, mask, noise, context, visible_weight, log_weight
        See :func:`vsae_fast.cuda.importance_impute.run`; log-weights of samples that were not spent are -inf.
    tolerance : float
        See :func:`vsae_fast.ops.importance_impute.importance_impute`.
    """
    n_rows, n_proposals, _ = mean.shape
    per_proposal = noise.shape[0] // n_proposals
    n_segments = per_proposal // SEGMENT
    sums = x.new_zeros(n_rows, n_segments + 1, model.n_partial)  # the last segment is what is left over
    sums[..., 0] = -math.inf  # what is not computed has no weight
    taken = torch.full((n_rows,), n_segments + 1, dtype=torch.int64, device=x.device)
    unit = _spreads(model, mask)
    on = torch.arange(n_rows, device=x.device)
    if log_weight is not None:
        log_weight.fill_(-math.inf)
    targets, rest = model.scoring.targets(x, mask)

    def compute(begin: int, end: int, length: int) -> None:
        own = None if log_weight is None else log_weight[on]
        sums[on, begin:end] = launch_segments(
            launch, model, mean[on], scale[on], x[on], mask[on], targets[on], noise,
            context=None if context is None else context[on], visible_weight=visible_weight, first=begin * SEGMENT,
            length=length, n_segments=end - begin, log_weight=own,
        )  # fmt: skip
        if log_weight is not None and own is not None:
            log_weight[on] = own

    for begin, end in rounds(n_segments):
        compute(begin, end, SEGMENT)
        weight, square, total = _weighted(model, sums[on, :end])
        needed = segments_needed(weight, square, total, unit[on], tolerance, least=begin + 1)
        taken[on] = torch.where(needed > 0, needed, taken[on])
        on = on[needed == 0]
        if len(on) == 0:
            break
    if len(on) and per_proposal > n_segments * SEGMENT:
        compute(n_segments, n_segments + 1, per_proposal - n_segments * SEGMENT)

    spent = (taken * SEGMENT).clamp(max=per_proposal)
    beyond = torch.arange(n_segments + 1, device=x.device) >= taken.unsqueeze(1)
    sums[..., 0].masked_fill_(beyond, -math.inf)
    if log_weight is not None:
        position = torch.arange(noise.shape[0], device=x.device) % per_proposal
        log_weight.masked_fill_(position >= spent.unsqueeze(1), -math.inf)
    spent = spent * n_proposals
    imputed, top, weight, square = _merged(model, sums, x, mask)
    evidence = top.double() + weight.double().log() - spent.double().log()
    evidence += visible_weight * (_constant(model, mask) - 0.5 * rest)
    return imputed, evidence, weight.double() ** 2 / square.double(), spent.to(torch.int32)


def _weighted(model: CudaModel, sums: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights, their squares and weighted values (B, N, numbers and levels) of segments (N, B, partial)."""
    factor = torch.exp(sums[..., 0] - sums[..., 0].amax(1, keepdim=True))
    weight, square = factor * sums[..., 1], factor**2 * sums[..., 2]
    values = _values(model, factor.unsqueeze(-1) * sums[..., PARTIAL:], weight)
    return weight.t(), square.t(), values.transpose(0, 1)


def _values(model: CudaModel, weighted: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted columns from weighted last hidden vectors and weighted probabilities beside them, (..., D)."""
    output, (numbers, levels) = model.decoders.output, model.columns
    n_hidden = output.weight.shape[1]
    values = weighted.new_empty(*weighted.shape[:-1], model.decoders.layout.n_columns)
    values[..., levels] = weighted[..., n_hidden:]
    of_numbers = weighted[..., :n_hidden] @ output.weight[numbers].t()
    values[..., numbers] = of_numbers + weight.unsqueeze(-1) * output.bias[numbers]
    return values


def _merged(
    model: CudaModel, sums: torch.Tensor, x: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Imputed rows, what weights count relative to, their sum and that of their squares."""
    top = sums[..., 0].amax(1)
    factor = torch.exp(sums[..., 0] - top.unsqueeze(1))
    weight, square = (factor * sums[..., 1]).sum(1), (factor**2 * sums[..., 2]).sum(1)
    weighted = (factor.unsqueeze(-1) * sums[..., PARTIAL:]).sum(1)
    values = _values(model, weighted / weight.unsqueeze(-1), torch.ones_like(weight))
    observed = model.decoders.layout.expand(mask) > 0
    return torch.where(observed, x, values), top, weight, square


def _spreads(model: CudaModel, mask: torch.Tensor) -> torch.Tensor:
    """Spread of each unobserved value given z, infinite where observed, (N, D)."""
    layout = model.decoders.layout
    spread = torch.where(layout.numerical_columns(mask.device), model.decoders.log_scale.exp(), 1.0)
    return torch.where(layout.expand(mask) > 0, math.inf, spread)


def _constant(model: CudaModel, mask: torch.Tensor) -> torch.Tensor:
    """Normalising constants of the observed numbers, float64 (N,)."""
    layout = model.decoders.layout
    terms = -model.decoders.log_scale.double() - HALF_LOG_TWO_PI
    counted = (layout.expand(mask) > 0) & layout.numerical_columns(mask.device)
    return torch.where(counted, terms, 0.0).sum(1)
