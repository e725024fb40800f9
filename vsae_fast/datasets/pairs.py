"""Pairs of images, and images with labels (appendices E.2 and E.3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vsae_fast.datasets.images import IDX, N_CLASSES, Images, load_idx, load_svhn, svhn_stand_in
from vsae_fast.datasets.local import Folder
from vsae_fast.datasets.split import Array, Blocks, Split, split

DIGIT_PAIRS = ((0, 9), (1, 8), (2, 7), (3, 6), (4, 5))


def pair_up(
    first: tuple[Array, Array],
    second: tuple[Array, Array],
    pairs: Sequence[tuple[int, int]],
    random: np.random.Generator,
) -> tuple[Array, Array, Array]:
    """Rows of two sets that belong together, every row used at most once.

    Parameters
    ----------
    first, second : tuple of numpy.ndarray
        Items and labels of each set.
    pairs : sequence of tuple of int
        Classes that go together; as many pairs as the rarer of the two has items.
    random : numpy.random.Generator

    Returns
    -------
    first, second : numpy.ndarray
        Paired items, classes mixed.
    label : numpy.ndarray of int64
        Class of the first.

    Raises
    ------
    ValueError
        A class without an item.
    """
    rows, others, labels = [], [], []
    for a, b in pairs:
        own, other = (np.flatnonzero(labels_ == c) for labels_, c in ((first[1], a), (second[1], b)))
        n = min(len(own), len(other))
        if n == 0:
            raise ValueError(f"there is no pair of classes {a} and {b}: one of them has no items")
        rows.append(random.permutation(own)[:n])
        others.append(random.permutation(other)[:n])
        labels.append(np.full(n, a))
    order = random.permutation(sum(map(len, rows)))
    row, other_row, label = (np.concatenate(part)[order] for part in (rows, others, labels))
    return first[0][row], second[0][other_row], label


def fetch_mnist_pairs(*, folder: Folder = None, seed: int = 0) -> Split:
    """MNIST+MNIST: pairs of digits 0 and 9, 1 and 8, 2 and 7, 3 and 6, 4 and 5 (appendix E.2).

    Parameters
    ----------
    folder : path, optional
        See :mod:`vsae_fast.datasets`; ``folder/mnist`` holds ``mnist.npz`` or the four official files.
    seed : int
        Of the pairing and of the validation rows.

    Returns
    -------
    Split
        23,257 training, 5,814 validation and 4,832 test rows of ``first`` and ``second`` (28 x 28, uint8); no image is
        used twice.
    """
    digits = load_idx("mnist", folder)
    random = np.random.default_rng(seed)

    def part(images: Array, labels: Array) -> Blocks:
        # Both halves of a pair come from one set: classes 0 to 4 never meet 5 to 9 from the other side.
        first, second, _ = pair_up((images, labels), (images, labels), DIGIT_PAIRS, random)
        return {"first": first, "second": second}

    return split(part(digits.train, digits.train_label), part(digits.test, digits.test_label), seed)


def fetch_mnist_svhn(*, folder: Folder = None, seed: int = 0, stand_in: bool = False) -> Split:
    """MNIST+SVHN: a handwritten digit and the same digit as a house number (appendix E.2).

    Parameters
    ----------
    folder : path, optional
        See :mod:`vsae_fast.datasets`; ``folder/svhn`` holds ``train_32x32.mat`` and ``test_32x32.mat``.
    seed : int
        Of the pairing and of the validation rows.
    stand_in : bool
        Coloured, noisy MNIST digits in place of house numbers.

    Returns
    -------
    Split
        44,854 training, 11,214 validation and 10,000 test rows of ``mnist`` (28 x 28) and ``svhn`` (32 x 32 x 3),
        uint8, with the official files.
    """
    digits = load_idx("mnist", folder)
    numbers = _painted_others(digits, seed) if stand_in else load_svhn(folder)
    random = np.random.default_rng(seed)
    same = [(c, c) for c in range(N_CLASSES)]

    def part(first: tuple[Array, Array], second: tuple[Array, Array]) -> Blocks:
        a, b, _ = pair_up(first, second, same, random)
        return {"mnist": a, "svhn": b}

    train = part((digits.train, digits.train_label), (numbers.train, numbers.train_label))
    test = part((digits.test, digits.test_label), (numbers.test, numbers.test_label))
    return split(train, test, seed, stand_in=stand_in)


def _painted_others(digits: Images, seed: int) -> Images:
    """Painted digits whose order has nothing to do with that of the plain ones."""
    order = np.random.default_rng([seed, 1]).permutation(len(digits.train))
    return svhn_stand_in(digits._replace(train=digits.train[order], train_label=digits.train_label[order]), seed)


def fetch_image_label(name: str = "mnist", *, folder: Folder = None, seed: int = 0) -> Split:
    """Images with their labels as a second attribute (appendix E.3).

    Parameters
    ----------
    name : {"mnist", "fashion_mnist"}
    folder : path, optional
        See :mod:`vsae_fast.datasets`.
    seed : int
        Of the validation rows.

    Returns
    -------
    Split
        48,000 training, 12,000 validation and 10,000 test rows of ``image`` (28 x 28, uint8) and ``label`` (text,
        ``"0"`` to ``"9"``).
    """
    if name not in IDX:
        raise ValueError(f"unknown set {name!r}; use one of {', '.join(IDX)}")
    images = load_idx(name, folder)
    train: Blocks = {"image": images.train, "label": images.train_label.astype(str).astype(object)}
    test: Blocks = {"image": images.test, "label": images.test_label.astype(str).astype(object)}
    return split(train, test, seed)
