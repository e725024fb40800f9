"""Features of review videos: sound, picture and words (appendix E.4)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vsae_fast.datasets.local import Folder, data_folder, find
from vsae_fast.datasets.split import Array, Blocks, Split, n_paired, split

# Features at each of 20 time steps, as Tsai et al. (2019) publish them.
WIDTHS = {
    "cmu_mosi": {"audio": 5, "video": 20, "text": 300},
    "ict_mmmo": {"audio": 74, "video": 36, "text": 300},
}
STEPS = 20
PARTS = ("train", "valid", "test")


def fetch_multimodal(name: str, *, folder: Folder = None, seed: int = 0) -> Split:
    """CMU-MOSI or ICT-MMMO: mean over the time steps of each video's acoustic, visual and textual features.

    The files have no public download that can be relied on; put the ones published with the Memory Fusion Network or
    the Multimodal Factorization Model into ``folder/NAME``: ``audio_train.h5``, ``video_train.h5``,
    ``text_train_emb.h5`` and the same for ``valid`` and ``test`` (reading them needs the extra ``datasets``), or all
    arrays in ``NAME.npz`` as ``audio_train`` and so on. Where the words of the training videos are missing
    (``ict_mmmo_partial``), the videos that have all three modalities are split anew, 7 to 1 to 2.

    Parameters
    ----------
    name : {"cmu_mosi", "ict_mmmo"}
    folder : path, optional
        See :mod:`vsae_fast.datasets`.
    seed : int
        Of that new split.

    Returns
    -------
    Split
        float32 arrays ``audio``, ``video`` and ``text``, one vector per video.

    Raises
    ------
    ValueError
        Unknown name; files that are not paired, empty or of another size than published.
    FileNotFoundError
        No files.
    """
    if name not in WIDTHS:
        raise ValueError(f"unknown set {name!r}; use one of {', '.join(WIDTHS)}")
    own, arrays = _read(name, folder)
    parts: dict[str, Blocks] = {}
    for part in PARTS:
        blocks: Blocks = {}
        for modality, width in WIDTHS[name].items():
            sequence = arrays.get(f"{modality}_{part}")
            if sequence is None:
                continue
            if sequence.ndim != 3 or sequence.shape[1:] != (STEPS, width):
                raise ValueError(
                    f"{own}: {modality}_{part} has shape {sequence.shape}; {name} has (videos, {STEPS}, {width})"
                )
            if not np.isfinite(sequence).all():
                raise ValueError(f"{own}: {modality}_{part} holds NaN or infinity")
            blocks[modality] = sequence.mean(axis=1, dtype=np.float64).astype(np.float32)
        parts[part] = blocks
    whole = {part: blocks for part, blocks in parts.items() if len(blocks) == len(WIDTHS[name])}
    if not whole:
        raise FileNotFoundError(f"{own} lacks one of {', '.join(WIDTHS[name])} in every part; put all files there")
    for blocks in whole.values():
        n_paired(blocks)
    if len(whole) == len(PARTS):
        return Split(parts["train"], parts["valid"], parts["test"])
    joined = {modality: np.concatenate([blocks[modality] for blocks in whole.values()]) for modality in WIDTHS[name]}
    return _split_anew(joined, seed)


def _read(name: str, folder: Folder) -> tuple[Path, dict[str, Array]]:
    for own in (data_folder(folder, name), data_folder(folder, f"{name}_partial")):
        archive = find(own, [f"{name}.npz", f"{name}_partial.npz"])
        if own is not None and archive is not None:
            with np.load(archive, allow_pickle=False) as arrays:
                return own, {key: arrays[key] for key in arrays.files}
        if own is not None and any(own.glob("*.h5")):
            return own, _read_h5(own, name)
    raise FileNotFoundError(
        f"{name} has no public download; put its .h5 files or {name}.npz into FOLDER/{name} and pass folder=FOLDER"
    )


def _read_h5(own: Path, name: str) -> dict[str, Array]:
    try:
        import h5py
    except ModuleNotFoundError as error:
        message = "reading .h5 files needs h5py; run: pip install 'vsae_fast[datasets]'"
        raise ModuleNotFoundError(message, name="h5py") from error
    arrays = {}
    for part in PARTS:
        for modality in WIDTHS[name]:
            path = find(own, [f"{modality}_{part}.h5", f"{modality}_{part}_emb.h5"])
            if path is None:
                continue
            try:
                with h5py.File(path) as file:
                    keys = list(file.keys())
                    if len(keys) != 1:
                        raise ValueError(f"{path} holds {len(keys)} arrays in place of one")
                    arrays[f"{modality}_{part}"] = np.asarray(file[keys[0]])
            except OSError as error:
                raise ValueError(f"{path} is not an HDF5 file, or it is damaged") from error
    return arrays


def _split_anew(blocks: Blocks, seed: int) -> Split:
    order = np.random.default_rng(seed).permutation(n_paired(blocks))
    n_valid, n_test = round(0.1 * len(order)), round(0.2 * len(order))
    rows = order[n_valid + n_test :], order[:n_valid], order[n_valid : n_valid + n_test]
    train, valid, test = ({name: block[part] for name, block in blocks.items()} for part in rows)
    return Split(train, valid, test)


def multimodal_stand_in(n_rows: int = 2000, *, seed: int = 0) -> Split:
    """Simulated three-modality set of CMU-MOSI's sizes: nonlinear, noisy views of eight shared factors.

    Parameters
    ----------
    n_rows : int
        Training and validation rows; a fifth as many are for testing.
    seed : int

    Returns
    -------
    Split
        With ``stand_in`` set.
    """
    if n_rows < 10:
        raise ValueError(f"n_rows must be at least 10, got {n_rows}")
    random = np.random.default_rng(seed)
    n_test = n_rows // 5
    factors = random.standard_normal((n_rows + n_test, 8))
    blocks: Blocks = {}
    for modality, width in WIDTHS["cmu_mosi"].items():
        mixing = random.standard_normal((8, width)) / np.sqrt(8)
        view = np.tanh(factors @ mixing) + 0.3 * random.standard_normal((len(factors), width))
        blocks[modality] = view.astype(np.float32)
    train = {name: block[:n_rows] for name, block in blocks.items()}
    test = {name: block[n_rows:] for name, block in blocks.items()}
    return split(train, test, seed, stand_in=True)
