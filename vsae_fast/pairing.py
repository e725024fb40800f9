"""Attributes that belong together have one row per case each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def check_paired(lengths: Mapping[Any, int]) -> int:
    """Number of rows, the same in every attribute.

    Parameters
    ----------
    lengths : mapping of name to int

    Raises
    ------
    ValueError
        An attribute without rows, or attributes of different lengths.

    Examples
    --------
    >>> check_paired({"image": 5, "label": 5})
    5
    """
    for name, length in lengths.items():
        if length == 0:
            raise ValueError(f"attribute {name!r} has 0 rows while a minimum of 1 is required.")
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
        raise ValueError(f"attributes are not paired: {shown} rows; pass one row per case in each")
    return next(iter(lengths.values()))
