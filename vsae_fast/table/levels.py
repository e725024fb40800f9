"""Levels of a pandas categorical that are neither text nor numbers, such as the intervals of ``pandas.cut``.

The model, its files and its tables know them by their text; cells that are filled hold the levels themselves.
"""

from __future__ import annotations

import numbers
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vsae_fast.table.column import object_array


def level_names(name: Hashable, levels: Sequence[Any]) -> dict[Any, str]:
    """Text of each level of column ``name``, in order; empty where all are text or numbers themselves.

    Raises
    ------
    ValueError
        Two levels whose text is the same.
    """
    if all(isinstance(level, (str, bytes, bool, np.bool_, numbers.Real)) for level in levels):
        return {}
    names = {level: str(level) for level in levels}
    texts = list(names.values())
    if len(set(texts)) < len(texts):
        twice = next(text for text in texts if texts.count(text) > 1)
        raise ValueError(f"column {name!r} has two levels {twice!r}; tell them apart with .cat.rename_categories")
    return names


def own_levels(name: Hashable, levels: Sequence[Any], values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The levels themselves in place of their text; what is no level's text stays as it is."""
    named = {text: level for level, text in level_names(name, levels).items()}
    return object_array([named.get(value, value) for value in values.tolist()]) if named else values
