"""Digits, clothes and house numbers: official files to arrays."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vsae_fast.datasets.local import Folder, Remote, data_folder, find, obtain
from vsae_fast.datasets.split import Array

N_CLASSES = 10
IDX_NAMES = {
    "x_train": "train-images-idx3-ubyte.gz",
    "y_train": "train-labels-idx1-ubyte.gz",
    "x_test": "t10k-images-idx3-ubyte.gz",
    "y_test": "t10k-labels-idx1-ubyte.gz",
}
# The digests that the data's authors publish.
IDX = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        {
            "x_train": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "y_train": "d53e105ee54ea40749a09fcbcd1e9432",
            "x_test": "9fb629c4189551a2d022fa330f9573f3",
            "y_test": "ec29112dd5afa0611ce80d1b7f02629c",
        },
    ),
    "fashion_mnist": (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {
            "x_train": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "y_train": "25c81989df183df01b3e8a0aad5dffbe",
            "x_test": "bef4ecab320f06d8554ea6380940ec79",
            "y_test": "bb300cfdad3c16e7a12a480ee83cd310",
        },
    ),
}
SVHN = {
    "train": Remote("http://ufldl.stanford.edu/housenumbers/train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373"),
    "test": Remote("http://ufldl.stanford.edu/housenumbers/test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3"),
}


class Images(NamedTuple):
    """Images and their labels.

    Attributes
    ----------
    train, test : numpy.ndarray of uint8, shape (N, height, width) or (N, height, width, 3)
    train_label, test_label : numpy.ndarray of int64, shape (N,)
        0 to 9.
    """

    train: Array
    train_label: Array
    test: Array
    test_label: Array


def read_idx(path: Path) -> Array:
    """Array of a gzipped or plain IDX file of unsigned bytes.

    Raises
    ------
    ValueError
        Not such a file, or one that is cut off.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            data = file.read()
    except (OSError, EOFError) as error:
        raise ValueError(f"{path} cannot be read ({error}); fetch it again") from error
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is not an IDX file of bytes; fetch it again")
    n_dimensions = data[3]
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", n_dimensions, 4))
    body: Array = np.frombuffer(data, np.uint8, offset=4 + 4 * n_dimensions)
    if body.size != np.prod(shape):
        raise ValueError(f"{path} holds {body.size} bytes in place of {np.prod(shape)}; fetch it again")
    array: Array = body.reshape(shape)
    return array


def load_idx(name: str, folder: Folder) -> Images:
    """MNIST or Fashion-MNIST, from ``NAME.npz`` or the four official files.

    Raises
    ------
    ValueError
        Files that do not fit each other or the format.
    FileNotFoundError
        Neither found nor downloaded.
    """
    own = data_folder(folder, name)
    archive = find(own, [f"{name}.npz"])
    if archive is not None:
        with np.load(archive, allow_pickle=False) as arrays:
            lacking = sorted(set(IDX_NAMES) - set(arrays.files))
            if lacking:
                raise ValueError(f"{archive} lacks {', '.join(lacking)}")
            parts = {part: arrays[part] for part in IDX_NAMES}
    else:
        base, digests = IDX[name]
        parts = {
            part: read_idx(obtain(own, file, Remote(base + file, digests[part]), name))
            for part, file in IDX_NAMES.items()
        }
    where = str(own or name)
    return check_images(Images(parts["x_train"], parts["y_train"], parts["x_test"], parts["y_test"]), (28, 28), where)


def load_svhn(folder: Folder) -> Images:
    """Street View House Numbers, cropped to 32 x 32, from ``svhn/train_32x32.mat`` and ``svhn/test_32x32.mat``.

    Raises
    ------
    ValueError
        Files that do not fit each other or the format.
    FileNotFoundError
        Neither found nor downloaded.
    """
    from scipy.io import loadmat

    own = data_folder(folder, "svhn")
    parts: list[Array] = []
    for part, remote in SVHN.items():
        path = obtain(own, f"{part}_32x32.mat", remote, "svhn")
        try:
            content = loadmat(path)
            images, labels = content["X"], content["y"]
        except Exception as error:  # what scipy raises for a damaged file depends on where the damage is
            raise ValueError(f"{path} is not a file of cropped house numbers with X and y; fetch it again") from error
        if images.ndim != 4:
            raise ValueError(f"{path}: X has shape {images.shape}; the official files have (32, 32, 3, N)")
        parts += [np.moveaxis(images, -1, 0), labels.reshape(-1).astype(np.int64) % 10]  # 10 stands for the digit 0
    return check_images(Images(*parts), (32, 32, 3), str(own or "svhn"))


def svhn_stand_in(digits: Images, seed: int) -> Images:
    """Coloured, noisy digits of 32 x 32 pixels in place of house numbers: two random colours, contrast, noise."""
    random = np.random.default_rng(seed)

    def paint(images: Array) -> Array:
        n = len(images)
        shape = np.pad(images, ((0, 0), (2, 2), (2, 2))).astype(np.float32)[..., None] / 255  # [N, 32, 32, 1]
        ink, paper = random.uniform(0, 255, (2, n, 1, 1, 3)).astype(np.float32)
        painted = shape * ink + (1 - shape) * paper + random.normal(0, 12, (n, 32, 32, 3)).astype(np.float32)
        pixels: Array = np.clip(np.rint(painted), 0, 255).astype(np.uint8)
        return pixels

    return Images(paint(digits.train), digits.train_label, paint(digits.test), digits.test_label)


def check_images(images: Images, shape: tuple[int, ...], where: str) -> Images:
    """Images with int64 labels.

    Raises
    ------
    ValueError
        No images, another number of labels than images, images of another size, or a label out of range.
    """
    checked = []
    for part, pixels, labels in (("train", images.train, images.train_label), ("test", images.test, images.test_label)):
        labels = labels.reshape(-1).astype(np.int64)
        if len(pixels) == 0:
            raise ValueError(f"{where}: the {part} part has no images; fetch it again")
        if len(pixels) != len(labels):
            raise ValueError(f"{where}: the {part} part has {len(pixels)} images and {len(labels)} labels")
        if pixels.shape[1:] != shape:
            raise ValueError(f"{where}: images of the {part} part have shape {pixels.shape[1:]} in place of {shape}")
        if labels.min() < 0 or labels.max() >= N_CLASSES:
            raise ValueError(
                f"{where}: a label of the {part} part is out of range 0 to 9: {labels.min()} to {labels.max()}"
            )
        checked += [pixels, labels]
    return Images(*checked)
