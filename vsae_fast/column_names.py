"""Names of an estimator's columns, after scikit-learn's conventions: those of fit, and those of the result."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data


def check_columns(estimator: BaseEstimator, X: Any, names: Sequence[Hashable], *, reset: bool) -> None:
    """Record names and number of a table's columns, or hold them against those of fit.

    Parameters
    ----------
    estimator : BaseEstimator
        Gets ``n_features_in_`` and, where the columns have names, ``feature_names_in_``.
    X : table
    names : sequence of hashable
        Of X's columns.
    reset : bool
        Record rather than compare.

    Raises
    ------
    ValueError
        X has other columns than at fit.
    """
    if not isinstance(X, Mapping):
        validate_data(estimator, X, reset=reset, skip_check_array=True)
        return
    texts = [str(name) for name in names]
    if reset:
        estimator.n_features_in_ = len(texts)
        estimator.feature_names_in_ = np.asarray(texts, dtype=object)
    elif texts != (known := list(getattr(estimator, "feature_names_in_", []))):
        raise ValueError(
            f"X has the attributes {list(names)}, but fit saw {known}; pass the same ones in the same order"
        )


def output_names(
    estimator: BaseEstimator, input_features: Any, dropped: Sequence[int], indicated: Sequence[int]
) -> np.ndarray[Any, np.dtype[np.object_]]:
    """Names of the columns of a transformed table.

    Parameters
    ----------
    estimator : BaseEstimator
        Fitted.
    input_features : sequence of str, optional
        Those of fit, or ``x0``, ``x1``, ... where it is left out.
    dropped : sequence of int
        Columns that are left out of the result.
    indicated : sequence of int
        Columns that have an indicator at its end.

    Raises
    ------
    ValueError
        ``input_features`` are not those of fit.
    """
    fitted = getattr(estimator, "feature_names_in_", None)
    if input_features is None:
        names = list(fitted) if fitted is not None else [f"x{j}" for j in range(estimator.n_features_in_)]
    else:
        names = list(input_features)
        if fitted is not None and names != list(fitted):
            raise ValueError("input_features is not equal to feature_names_in_")
        if len(names) != estimator.n_features_in_:
            raise ValueError(
                f"input_features should have length equal to number of features ({estimator.n_features_in_}), "
                f"got {len(names)}"
            )
    left_out = set(dropped)
    kept = [name for j, name in enumerate(names) if j not in left_out]
    return np.asarray([*kept, *(f"missingindicator_{names[j]}" for j in indicated)], dtype=object)
