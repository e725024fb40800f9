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
ERROR_SHARE, ERROR_SAMPLES, LARGEST_ERROR = 0.3, 30, 9.0  # of imputation_error


class HiddenCells(NamedTuple):
    """Rows, the known cells that were hidden from the model (N, M), and what it made of them."""

    x: torch.Tensor
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
    for pattern in range(n_patterns):
        hidden = mask * (random.uniform(tuple(mask.shape), mask) < share)
        fill = random.normal((1, model.layout.n_columns), x)[0] if model.config.fill == "noise" else None
        result = model.impute(
            x,
            mask - hidden,
            noise,
            fill_noise=fill,
            visible_weight=visible_weight,
            n_draws=n_draws,
            seed=seed + pattern,
        )
        yield HiddenCells(x, hidden, result)


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
    for known, hidden, result in cells:
        squares = (result.imputed - known) ** 2
        error = (torch.zeros_like(hidden).index_add_(1, columns, squares) / width).clamp(max=LARGEST_ERROR)
        total += float((error * hidden).sum())
        count += float(hidden.sum())
    return total / count if count else math.nan
