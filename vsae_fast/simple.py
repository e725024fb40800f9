"""Mean, median and mode imputation, as a yardstick; scikit-learn's SimpleImputer on every column."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.impute import SimpleImputer

from vsae_fast.table.containers import read_table
from vsae_fast.table.decode import as_stored
from vsae_fast.table.mask import observed_cells
from vsae_fast.table.schema import Schema


def fill_simply(X: Any, schema: Schema, strategy: str) -> Any:
    """Fill numbers with their column's mean or median, levels with their mode.

    Parameters
    ----------
    X : table, shape (N, columns)
    schema : Schema
        Decides which columns are numbers.
    strategy : {"mean", "median"}

    Returns
    -------
    table of the type of X
    """
    table = read_table(X)
    missing = ~observed_cells(table, None)
    fills = []
    for j, (column, description) in enumerate(zip(table.columns(), schema.columns, strict=True)):
        numerical = description.attribute_kind == "numerical"
        known = column.values[~missing[:, j]].reshape(-1, 1)
        if len(known):
            value = SimpleImputer(strategy=strategy if numerical else "most_frequent").fit(known).statistics_[0]
        else:
            value = description.fill
        fill = np.empty(int(missing[:, j].sum()), dtype=object)
        fill[:] = value
        fills.append(as_stored(column, description, fill))
    writer = table.writer()
    writer.write(0, missing, fills)
    return writer.result()
