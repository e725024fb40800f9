"""How wide draws must be: their spread beside the error on known cells that are hidden for the purpose.

A numerical column has one learned scale for every pattern of holes, and training hides more than is missing at
imputation: draws would be too wide where much is known. One factor per column brings their mean square into line with
that of the errors.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from vsae_fast.closed_form_member import ClosedFormMember
from vsae_fast.hidden_cells import impute_hidden_cells
from vsae_fast.models.latent_model import LatentModel

HIDDEN_SHARE, SAMPLES, DRAWS = 0.1, 200, 8
# Encoded cells of the rows that are taken, and rows that always are: a table of a column of 10,000 levels has as many
# numbers to learn from in a row as one of five columns, and each of its rows costs two thousand times as much.
ENCODED_CELLS, FEWEST_ROWS = 200_000, 100
LARGEST = 3.0  # an outlier counts as one of three standard deviations: it shall not decide a column's factor
PRIOR_CELLS = 10.0  # that agree with the model's own spread: a few cells change little
RANGE = (0.3, 2.0)


class SpreadMoments(NamedTuple):
    """Sums of squares over hidden cells for each of the D columns, in standardised units; plain values for model files.

    Attributes
    ----------
    error : list of float
        Squared error of the expected values; 0 for columns of levels, whose draws have no width, as all three are.
    spread : list of float
        Squared deviation of draws from the expected values.
    n_cells : list of float
        How many.
    """

    error: list[float]
    spread: list[float]
    n_cells: list[float]


def spread_moments(
    model: LatentModel,
    x: torch.Tensor,
    mask: torch.Tensor,
    visible_weight: float,
    seed: int,
    closed_form: ClosedFormMember | None = None,
) -> SpreadMoments:
    """Hide a tenth of the known cells, several times, and compare errors with draws.

    Parameters
    ----------
    model : LatentModel
        In evaluation mode.
    x : torch.Tensor, shape (N, D)
        Rows that the model was not trained on.
    mask : torch.Tensor, shape (N, M)
        1 = observed.
    visible_weight : float
        Exponent of p(x_o | z).
    seed : int
        Of the patterns, the noise and the draws.
    closed_form : ClosedFormMember, optional
        What the model's expected values are averaged with; fitted without these rows.
    """
    layout = model.layout
    numerical = layout.numerical_columns(x.device).nonzero().squeeze(1)
    sums = torch.zeros(3, layout.n_columns, dtype=torch.float64, device=x.device)
    if not len(numerical):
        return SpreadMoments(*sums.tolist())
    n_rows = max(ENCODED_CELLS // layout.n_columns, FEWEST_ROWS)
    x, mask = x[:n_rows], mask[:n_rows]
    cells = impute_hidden_cells(
        model, x, mask, visible_weight, seed, share=HIDDEN_SHARE, n_samples=SAMPLES, n_draws=DRAWS
    )
    for known, visible, hidden, result in cells:
        where = layout.expand(hidden)[:, numerical].double()
        expected = result.imputed if closed_form is None else closed_form.blend(known, visible, result.imputed)
        error = (known - expected)[:, numerical].double().abs().clamp(max=LARGEST) ** 2
        deviation = result.draws[..., numerical] - result.imputed[:, numerical].unsqueeze(1)
        spread = (deviation.double() ** 2).mean(1)
        sums[:, numerical] += torch.stack([(error * where).sum(0), (spread * where).sum(0), where.sum(0)])
    return SpreadMoments(*sums.tolist())


def spread_factors(moments: list[SpreadMoments], numerical: torch.Tensor) -> torch.Tensor:
    """Factor of the draws' deviations for each column, float32 of shape (D,); 1 for levels and without validation.

    Parameters
    ----------
    moments : list of SpreadMoments
        Of every member; members are pooled.
    numerical : torch.Tensor of bool, shape (D,)
    """
    if not moments:
        return torch.ones(len(numerical))
    error, spread, count = torch.tensor(moments, dtype=torch.float64).sum(0)
    typical = spread / count.clamp(min=1)
    prior = PRIOR_CELLS * len(moments) * torch.where(typical > 0, typical, 1.0)
    ratio = ((error + prior) / (spread + prior)).sqrt()
    return torch.where(numerical, ratio.clamp(*RANGE), 1.0).float()
