"""Estimates from several imputed tables as one: Rubin's rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from scipy.special import stdtr, stdtrit

from vsae_fast.table.column import FloatArray

Rule = Literal["barnard-rubin", "rubin"]


@dataclass(frozen=True)
class Pooled:
    """Result of :func:`pool`.

    Attributes
    ----------
    estimate : numpy.ndarray
        Mean over the imputations, of the shape of one estimate.
    variance : numpy.ndarray
        Total variance, or covariance matrix where such were given: ``within + (1 + 1/m) between``.
    within, between : numpy.ndarray
        Mean of the variances, and variance of the estimates (divisor ``m - 1``).
    df : numpy.ndarray
        Degrees of freedom of Student's t for each component.
    relative_increase : numpy.ndarray
        Of a component's variance through what is missing.
    fmi : numpy.ndarray
        Fraction of missing information of each component.
    """

    estimate: FloatArray
    variance: FloatArray
    within: FloatArray
    between: FloatArray
    df: FloatArray
    relative_increase: FloatArray
    fmi: FloatArray

    @property
    def standard_error(self) -> FloatArray:
        """Of each component."""
        return np.sqrt(_components(self.variance, self.estimate))

    def interval(self, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """Confidence interval of each component."""
        if not 0 < level < 1:
            raise ValueError(f"level must be between 0 and 1, got {level}")
        reach = stdtrit(self.df, (1 + level) / 2) * self.standard_error
        return self.estimate - reach, self.estimate + reach

    def p_value(self, null: float = 0.0) -> FloatArray:
        """Two-sided probability of an estimate as far from ``null``, for each component."""
        return np.asarray(2 * stdtr(self.df, -np.abs(self.estimate - null) / self.standard_error))


def pool(estimates: Any, variances: Any, dfcom: float | None = None, rule: str = "barnard-rubin") -> Pooled:
    """Pool estimates from imputed tables.

    Parameters
    ----------
    estimates : array-like, shape (m, ...)
        One estimate from each imputed table: numbers, or vectors of P components.
    variances : array-like, shape (m, ...) or (m, P, P)
        Squared standard errors, or covariance matrices of vectors.
    dfcom : float, optional
        Degrees of freedom that the estimate would have without missing cells (rows minus parameters in a regression);
        unlimited where it is left out.
    rule : {"barnard-rubin", "rubin"}
        Degrees of freedom: Barnard and Rubin's, which never exceed ``dfcom``, or Rubin's of large samples.

    Returns
    -------
    Pooled

    Raises
    ------
    ValueError
        Fewer than two imputations, shapes that do not fit, values that are not finite, or variances below 0.

    References
    ----------
    Rubin. Multiple Imputation for Nonresponse in Surveys. 1987.
    Barnard, Rubin. Small-sample degrees of freedom with multiple imputation. Biometrika 1999.

    Examples
    --------
    >>> pooled = pool([1.0, 1.2, 1.1], [0.04, 0.05, 0.04])
    >>> round(float(pooled.estimate), 3), round(float(pooled.variance), 4)
    (1.1, 0.0567)
    """
    if rule not in get_args(Rule):
        raise ValueError(f"unknown rule {rule!r}; use one of {', '.join(map(repr, get_args(Rule)))}")
    if dfcom is not None and not dfcom > 0:
        raise ValueError(f"dfcom must be positive, got {dfcom}")
    q, u = np.asarray(estimates, dtype=float), np.asarray(variances, dtype=float)
    m = len(q) if q.ndim else 0
    if m < 2:
        raise ValueError(f"pooling needs estimates from at least 2 imputations, got {m}")
    matrices = q.ndim == 2 and u.shape == (m, q.shape[1], q.shape[1])
    if u.shape != q.shape and not matrices:
        raise ValueError(f"variances must have the shape {q.shape} of the estimates, or be matrices; got {u.shape}")
    if not (np.isfinite(q).all() and np.isfinite(u).all()):
        raise ValueError("estimates and variances must be finite")
    if (np.diagonal(u, axis1=1, axis2=2) if matrices else u).min(initial=0) < 0:
        raise ValueError("variances must not be negative; pass squared standard errors")

    estimate, within = q.mean(axis=0), u.mean(axis=0)
    deviation = q - estimate
    between = deviation.T @ deviation / (m - 1) if matrices else (deviation**2).sum(axis=0) / (m - 1)
    added = (1 + 1 / m) * between
    variance = within + added
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.nan_to_num(_components(added, estimate) / _components(variance, estimate))  # 0 / 0: nothing varies
        increase = share / (1 - share)
        df = (m - 1) / share**2
        if rule == "barnard-rubin" and dfcom is not None:
            observed = (dfcom + 1) / (dfcom + 3) * dfcom * (1 - share)
            df = 1 / (1 / df + 1 / observed)
        fmi = np.where(np.isinf(increase), 1.0, (increase + 2 / (df + 3)) / (increase + 1))
    return Pooled(estimate, variance, within, between, df, increase, fmi)


def _components(variance: FloatArray, estimate: FloatArray) -> FloatArray:
    """Variances of the components, of the estimate's shape."""
    return np.diagonal(variance) if variance.ndim > estimate.ndim else variance
