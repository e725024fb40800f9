"""The front door."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vsae_fast.estimator import VSAEImputer
from vsae_fast.multiple import check_n_imputations
from vsae_fast.table.containers import read_table
from vsae_fast.table.mask import observed_cells
from vsae_fast.table.schema import Schema, detect_schema


def impute(
    X: Any,
    mask: Any = None,
    *,
    schema: Mapping[Any, str] | None = None,
    preset: str = "auto",
    n_samples: int | None = None,
    n_imputations: int = 1,
    device: str = "auto",
    random_state: Any = None,
    verbose: int = 0,
    **params: Any,
) -> Any:
    """Complete a table: train a Variational Selective Autoencoder on it and fill its holes.

    Parameters
    ----------
    X : table, shape (N, columns), or dict of attributes
        NumPy array (numbers, times, objects), pandas, polars or Arrow table, torch tensor, nested sequence, or a dict
        of arrays with N rows each, of which those with two or more dimensions (images, feature vectors) are one
        attribute, observed whole or not at all. NaN, None and NA are always missing. Never modified.
    mask : array or frame of bool or 0/1, shape (N, columns), or dict of arrays, shape (N,), optional
        1 = observed, 0 = missing; one entry per attribute of a dict.
    schema : dict of column name or position to kind, optional
        Overrides the detected kinds: ``"numerical"``, ``"integer"``, ``"boolean"``, ``"categorical"``;
        :func:`describe_schema` shows what is detected.
    preset : {"auto", "paper"}
        The recipe that measures best, or Gong et al. (2021) to the letter.
    n_samples : int, optional
        Importance samples per row; where it is left out, auto stops at a stated precision (see ``tolerance`` of
        :class:`VSAEImputer`).
    n_imputations : int
        More than 1: draw as many completions (:meth:`VSAEImputer.sample`) instead of the expected one.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
    random_state : int, RandomState or None
    verbose : int
        1 shows a progress bar.
    **params
        Further parameters of :class:`VSAEImputer`, such as ``epochs``.

    Returns
    -------
    table of the type of X, or MultipleImputation
        Observed cells bit-identical, no missing value left; index, names, order, dtypes and levels kept. With
        ``n_imputations`` above 1, a sequence of such tables.

    Raises
    ------
    ValueError, TypeError
        Input that cannot be imputed; the message names the column or argument and the remedy.

    Examples
    --------
    >>> import numpy as np
    >>> import vsae_fast
    >>> X = np.array([[1.0, 2.0], [2.0, np.nan], [3.0, 6.0], [4.0, 8.0]])
    >>> bool(np.isnan(vsae_fast.impute(X, epochs=1, random_state=0)).any())
    False
    """
    imputer = VSAEImputer(
        preset=preset,
        schema=schema,
        n_samples=n_samples,
        device=device,
        random_state=random_state,
        verbose=verbose,
        **params,
    )
    check_n_imputations(n_imputations)
    if n_imputations == 1:
        return imputer.fit_transform(X, mask=mask)
    return imputer.fit(X, mask=mask).sample(X, n_imputations, mask)


def describe_schema(X: Any, mask: Any = None, *, schema: Mapping[Any, str] | None = None) -> Schema:
    """Show what :func:`impute` takes each column for; print the result.

    Parameters
    ----------
    X : table, shape (N, columns)
    mask : array or frame of bool or 0/1, shape (N, columns), optional
        1 = observed.
    schema : dict of column name or position to kind, optional
        Overrides to check.

    Returns
    -------
    Schema

    Examples
    --------
    >>> import numpy as np
    >>> from vsae_fast import describe_schema
    >>> print(describe_schema(np.array([[1.5, 0], [2.5, 1], [np.nan, 1]])))
    column  kind       details
    x0      numerical  mean 2, standard deviation 0.5
    x1      boolean    2 levels: 0.0, 1.0
    """
    table = read_table(X)
    observed = observed_cells(table, mask)
    return detect_schema(table.columns(), observed, schema)
