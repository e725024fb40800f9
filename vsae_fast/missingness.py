"""Hiding cells on purpose: MCAR, MAR and MNAR masks at a given rate."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from scipy.optimize import bisect
from scipy.special import expit

from vsae_fast.table.column import BoolArray, Column, FloatArray, level_key
from vsae_fast.table.containers import read_table
from vsae_fast.table.mask import observed_cells
from vsae_fast.table.schema import mean_and_std

Mechanism = Literal["MCAR", "MAR", "MNAR"]
MnarModel = Literal["self-masking", "logistic"]


class Amputed(NamedTuple):
    """Result of :func:`ampute`.

    Attributes
    ----------
    X : table of the caller's type
        Copy with the hidden cells missing (integer and boolean columns become nullable where the container can).
    mask : numpy.ndarray of bool, shape (N, columns)
        1 = observed.
    """

    X: Any
    mask: BoolArray


def ampute(
    X: Any,
    mechanism: Mechanism = "MCAR",
    p: float = 0.5,
    *,
    observed_share: float = 0.3,
    mnar: MnarModel = "self-masking",
    random_state: int | np.random.Generator | None = None,
) -> Amputed:
    """Hide cells of a table.

    Parameters
    ----------
    X : table, shape (N, columns)
        Not modified. Cells that are missing already stay so.
    mechanism : {"MCAR", "MAR", "MNAR"}
        * MCAR: every cell with probability ``p``.
        * MAR: a random share of the columns is never hidden; a cell of the other columns is hidden with a probability
          that is logistic in the row's values of those columns.
        * MNAR: see ``mnar``.
    p : float
        Expected share of hidden cells, over the columns that can lose cells. Intercepts are found by bisection.
    observed_share : float
        Share of the columns that MAR never hides (at least one).
    mnar : {"self-masking", "logistic"}
        ``"self-masking"``: a cell is hidden with a probability that is logistic in its own value. ``"logistic"``: as
        MAR, and the columns that drive it lose cells completely at random.
    random_state : int, numpy.random.Generator or None

    Returns
    -------
    Amputed

    Raises
    ------
    ValueError
        Unknown mechanism, ``p`` outside (0, 1), or MAR on a table of one column.

    References
    ----------
    Muzellec, Josse, Boyer, Cuturi. Missing Data Imputation using Optimal Transport. ICML 2020 (logistic models).

    Examples
    --------
    >>> import numpy as np
    >>> X, mask = ampute(np.ones((1000, 4)), p=0.25, random_state=0)
    >>> bool((np.isnan(X) == ~mask).all()), bool(abs(1 - mask.mean() - 0.25) < 0.03)
    (True, True)
    """
    if mechanism not in get_args(Mechanism):
        raise ValueError(f"unknown mechanism {mechanism!r}; use one of {get_args(Mechanism)}")
    if mnar not in get_args(MnarModel):
        raise ValueError(f"unknown mnar {mnar!r}; use one of {get_args(MnarModel)}")
    if not 0 < p < 1:
        raise ValueError(f"p must be between 0 and 1, got {p}")
    if not 0 < observed_share < 1:
        raise ValueError(f"observed_share must be between 0 and 1, got {observed_share}")
    rng = np.random.default_rng(random_state)
    table = read_table(X)
    columns = table.columns()
    present = observed_cells(table, None)
    if mechanism == "MCAR":
        hidden = rng.random(table.shape) < p
    else:
        numbers = np.stack([_standardised(column) for column in columns], axis=1)
        if mechanism == "MNAR" and mnar == "self-masking":
            hidden = _self_masking(numbers, p, rng)
        else:
            hidden = _logistic(numbers, p, observed_share, hide_drivers=mechanism == "MNAR", rng=rng)
    return Amputed(table.with_missing(hidden), present & ~hidden)


def _standardised(column: Column) -> FloatArray:
    """Column as numbers with mean 0 and standard deviation 1, missing cells 0.

    Levels count by their sorted position, blocks of numbers by their mean.
    """
    known = ~column.missing
    values = np.zeros(len(known))
    if not known.any():
        return values
    if column.values.dtype == object:
        levels = sorted(set(column.values[known].tolist()), key=level_key)
        position = {level: i for i, level in enumerate(levels)}
        values[known] = [position[value] for value in column.values[known].tolist()]
    elif column.block:
        values[known] = column.values[known].mean(axis=1)
    else:
        values[known] = column.values[known]
    mean, std = mean_and_std(values[known])
    return np.where(known, (values - mean) / (std or 1.0), 0.0)


def _intercept(scores: FloatArray, p: float) -> float:
    """Intercept at which the mean of expit(scores + intercept) is p."""
    reach = float(np.abs(scores).max()) + 50.0
    return float(bisect(lambda shift: float(expit(scores + shift).mean()) - p, -reach, reach, xtol=1e-6))


def _self_masking(numbers: FloatArray, p: float, rng: np.random.Generator) -> BoolArray:
    hidden = np.zeros(numbers.shape, dtype=bool)
    for j in range(numbers.shape[1]):
        scores = rng.standard_normal() * numbers[:, j]
        hidden[:, j] = rng.random(len(scores)) < expit(scores + _intercept(scores, p))
    return hidden


def _logistic(
    numbers: FloatArray, p: float, observed_share: float, *, hide_drivers: bool, rng: np.random.Generator
) -> BoolArray:
    n_rows, n_columns = numbers.shape
    if n_columns < 2:
        raise ValueError("a logistic mechanism needs at least two columns; use MCAR or self-masking MNAR")
    n_drivers = min(max(round(observed_share * n_columns), 1), n_columns - 1)
    drivers = rng.choice(n_columns, n_drivers, replace=False)
    hidden = np.zeros(numbers.shape, dtype=bool)
    for j in np.setdiff1d(np.arange(n_columns), drivers):
        scores = numbers[:, drivers] @ rng.standard_normal(n_drivers)
        scores /= scores.std() or 1.0
        hidden[:, j] = rng.random(n_rows) < expit(scores + _intercept(scores, p))
    if hide_drivers:
        hidden[:, drivers] = rng.random((n_rows, n_drivers)) < p
    return hidden
