"""What a trained model makes of known cells that are hidden for the purpose."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch

from vsae_fast.models.latent_model import LatentModel
from vsae_fast.ops.draws import StreamDraws
from vsae_fast.ops.importance_impute import Imputation

ROWS, PATTERNS = 2000, 16
# Patterns of small tables are imputed together: a call for one of them waits for Python longer than for the kernels.
MOST_FLOATS = 1 << 18  # of encoded rows and their draws at once; an ensemble holds as many for every network
ERROR_SHARE, ERROR_SAMPLES, LARGEST_ERROR = 0.3, 30, 9.0  # of imputation_error


class HiddenCells(NamedTuple):
    """Known cells that were hidden from the model, and what it made of them, for P patterns one below the other.

    Attributes
    ----------
    x : torch.Tensor, shape (P N, D)
        The rows, once for each pattern.
    visible, hidden : torch.Tensor, shape (P N, M)
        1 = observed, and shown to the model or hidden from it.
    result : Imputation
        Of these rows.
    """

    x: torch.Tensor
    visible: torch.Tensor
    hidden: torch.Tensor
    result: Imputation


def impute_hidden_cells(
    model: LatentModel,
    x: torch.Tensor,
    mask: torch.Tensor,
    visible_weight: float,
    seed: int,
    *,
    share: float,
    n_samples: int,
    n_draws: int = 0,
    n_patterns: int = PATTERNS,
) -> Iterator[HiddenCells]:
    """Hide a share of the known cells of at most 2000 rows and impute them, once for each of some patterns.

    Patterns come together, as many as a megabyte holds.

    Parameters
    ----------
    model : LatentModel
        In evaluation mode.
    x : torch.Tensor, shape (N, D)
    mask : torch.Tensor, shape (N, M)
        1 = observed.
    visible_weight : float
        Exponent of p(x_o | z).
    seed : int
        Of the patterns, the noise and the draws.
    share : float
        Probability of a known cell to be hidden.
    n_samples, n_draws, n_patterns : int
    """
    random = StreamDraws(seed)
    x, mask = x[:ROWS], mask[:ROWS]
    noise = random.normal((n_samples, model.n_latent), x)
    at_once = min(max(MOST_FLOATS // ((1 + n_draws) * max(x.numel(), 1)), 1), n_patterns)
    for first in range(0, n_patterns, at_once):
        patterns, fills = [], []
        for _ in range(first, min(first + at_once, n_patterns)):
            patterns.append(mask * (random.uniform(tuple(mask.shape), mask) < share))
            if model.config.fill == "noise":
                fills.append(random.normal((1, model.layout.n_columns), x).expand_as(x))
        hidden, rows = torch.cat(patterns), x.repeat(len(patterns), 1)
        visible = mask.repeat(len(patterns), 1) - hidden
        result = model.impute(
            rows,
            visible,
            noise,
            fill_noise=torch.cat(fills) if fills else None,
            visible_weight=visible_weight,
            n_draws=n_draws,
            row_id=first * len(x) + torch.arange(len(rows), device=x.device) if n_draws else None,
            seed=seed,
        )
        yield HiddenCells(rows, visible, hidden, result)


def imputation_error(
    model: LatentModel,
    x: torch.Tensor,
    mask: torch.Tensor,
    visible_weight: float,
    seed: int,
    *,
    n_patterns: int = PATTERNS,
) -> float:
    """Mean squared error of the imputation of known cells that are hidden for the purpose.

    The bound that training maximises is about densities; between recipes it prefers other ones than the error does.
    Standardised numbers count with their squared error (its mean over the columns of a block), capped at three standard
    deviations so that single outliers do not decide, levels with the squared error of their probabilities (Brier's
    score).

    Parameters
    ----------
    model : LatentModel
        In evaluation mode.
    x : torch.Tensor, shape (N, D)
    mask : torch.Tensor, shape (N, M)
        1 = observed.
    visible_weight : float
        Exponent of p(x_o | z).
    seed : int
        Of the patterns and the noise.
    n_patterns : int
        How often other cells are hidden.
    """
    layout = model.layout
    columns = layout.column_attribute(x.device)
    sizes = zip(layout.kinds, layout.widths, strict=True)
    width = torch.tensor([width if kind == "numerical" else 1 for kind, width in sizes]).to(x)
    total = count = 0.0
    cells = impute_hidden_cells(
        model, x, mask, visible_weight, seed, share=ERROR_SHARE, n_samples=ERROR_SAMPLES, n_patterns=n_patterns
    )
    for known, _, hidden, result in cells:
        squares = (result.imputed - known) ** 2
        error = (torch.zeros_like(hidden).index_add_(1, columns, squares) / width).clamp(max=LARGEST_ERROR)
        total += float((error * hidden).sum())
        count += float(hidden.sum())
    return total / count if count else math.nan
