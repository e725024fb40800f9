"""Training, validation and test parts of blocks of columns."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vsae_fast.pairing import check_paired

Array = npt.NDArray[Any]
Blocks = dict[str, Array]
VALIDATION_SHARE = 0.2  # of the training data, as the printed sizes have it


class Split(NamedTuple):
    """Three parts of one set.

    Attributes
    ----------
    train, validation, test : dict of str to numpy.ndarray
        One array per attribute, rows along the first axis; what :func:`vsae_fast.impute` takes.
    stand_in : bool
        Whether this is simulated data in place of a set that could not be had.
    """

    train: Blocks
    validation: Blocks
    test: Blocks
    stand_in: bool = False

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Rows of the three parts."""
        train, validation, test = (len(next(iter(part.values()))) for part in self[:3])
        return train, validation, test


def take(blocks: Blocks, rows: Array) -> Blocks:
    """Some rows of every attribute."""
    return {name: block[rows] for name, block in blocks.items()}


def n_paired(blocks: Blocks) -> int:
    """Number of rows, the same in every attribute; raises ValueError where it is not, or 0."""
    return check_paired({name: len(block) for name, block in blocks.items()})


def split(train: Blocks, test: Blocks, seed: int, *, stand_in: bool = False) -> Split:
    """Set a fifth of the training rows apart, at random, for validation."""
    n_rows, _ = n_paired(train), n_paired(test)
    order = np.random.default_rng(seed).permutation(n_rows)
    n_validation = round(VALIDATION_SHARE * n_rows)
    return Split(take(train, order[n_validation:]), take(train, order[:n_validation]), test, stand_in)
