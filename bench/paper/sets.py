"""The experiments' data: tables that are imputed in place, and blocks with rows held out."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bench.accuracy.sets import DROPPED
from vsae_fast import datasets
from vsae_fast.datasets.split import VALIDATION_SHARE, Blocks, Split, take
from vsae_fast.missingness import ampute

# Of the two phishing sets the one of 11,055 sites is taken: its most frequent levels are wrong in 0.26 of the cells,
# the other's in 0.48, and the paper prints 0.24 for the VSAE.
BLOCKS = ("mnist_pairs", "mnist_svhn", "fashion_label", "mnist_label", "ict_mmmo")
STAND_IN_NOTES = {
    "mnist_svhn": "coloured, noisy MNIST digits in place of SVHN's house numbers",
    "ict_mmmo": "a simulated set of three modalities",
}
PARTIAL_NOTE = "the {} videos whose three modalities are at hand, of 340, split anew"
VIDEOS = 340

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]


class Data(NamedTuple):
    """One experiment's data, its truth whole; a mask is 1 where observed.

    Attributes
    ----------
    train, test : pandas.DataFrame or dict of arrays
        Rows to learn from, and rows to impute and score: the same ones for tables.
    train_mask, test_mask : numpy.ndarray of bool, shape (N, M)
    schema : dict
        Kinds that the set's documentation gives.
    validation_fraction : float
        Of the training rows.
    note : str
        What stands in for data that could not be had; empty where there is nothing to say.
    """

    train: Any
    train_mask: BoolArray
    test: Any
    test_mask: BoolArray
    schema: dict[Any, str]
    validation_fraction: float
    note: str


def load(name: str, mechanism: str, missing: float, seed: int, folder: str | None, n_rows: int | None) -> Data:
    """Data of one experiment.

    Parameters
    ----------
    name : str
    mechanism : {"MCAR", "MAR", "MNAR"}
    missing : float
        Share of missing cells; of missing attributes for blocks.
    seed : int
        Of masks, pairs and splits.
    folder : str or None
        Where the files are; see :mod:`vsae_fast.datasets`.
    n_rows : int or None
        At most so many rows of each part, for quick runs.
    """
    if name not in BLOCKS:
        table = datasets.fetch_uci(name, folder=folder).drop(columns=DROPPED.get(name, []))
        if n_rows is not None:
            table = table.sample(n=min(n_rows, len(table)), random_state=seed).reset_index(drop=True)
        mask = ampute(table, mechanism, missing, random_state=seed).mask  # type: ignore[arg-type]
        return Data(table, mask, table, mask, {}, 0.1, "")
    parts, note = _blocks(name, seed, folder)
    # The training loop sets its validation rows apart itself, at random and in the paper's number.
    train = {key: np.concatenate([parts.train[key], parts.validation[key]]) for key in parts.train}
    test = parts.test
    if n_rows is not None:
        train, test = (take(part, np.arange(min(n_rows, _length(part)))) for part in (train, test))
    random = np.random.default_rng([seed, 17])
    masks = [random.random((_length(part), len(part))) >= missing for part in (train, test)]
    share = 0.125 if name == "ict_mmmo" else VALIDATION_SHARE
    return Data(train, masks[0], test, masks[1], {"label": "categorical"} if "label" in train else {}, share, note)


@lru_cache(maxsize=2)
def _blocks(name: str, seed: int, folder: str | None) -> tuple[Split, str]:
    if name == "mnist_pairs":
        return datasets.fetch_mnist_pairs(folder=folder, seed=seed), ""
    if name in ("fashion_label", "mnist_label"):
        of = {"fashion_label": "fashion_mnist", "mnist_label": "mnist"}[name]
        return datasets.fetch_image_label(of, folder=folder, seed=seed), ""
    try:
        if name == "mnist_svhn":
            return datasets.fetch_mnist_svhn(folder=folder, seed=seed), ""
        parts = datasets.fetch_multimodal("ict_mmmo", folder=folder, seed=seed)
        n_videos = sum(parts.sizes)
        return parts, "" if n_videos == VIDEOS else PARTIAL_NOTE.format(n_videos)
    except FileNotFoundError:
        if name == "mnist_svhn":
            return datasets.fetch_mnist_svhn(folder=folder, seed=seed, stand_in=True), STAND_IN_NOTES[name]
        return datasets.multimodal_stand_in(seed=seed), STAND_IN_NOTES[name]


def _length(blocks: Blocks) -> int:
    return len(next(iter(blocks.values())))


def hide(X: Any, mask: BoolArray) -> Any:
    """Table or blocks with the unobserved cells missing: no method sees the truth."""
    if isinstance(X, pd.DataFrame):
        return X.where(mask)
    hidden = {}
    for j, (name, block) in enumerate(X.items()):
        if block.dtype == object:
            hidden[name] = np.where(mask[:, j], block, None)
        else:
            hidden[name] = block.astype(np.float32)
            hidden[name][~mask[:, j]] = np.nan
    return hidden
