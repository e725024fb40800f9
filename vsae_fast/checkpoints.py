"""How far training has come, in files that a run which was cut off goes on from: a folder a fit, a file a network."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vsae_fast.only_run import only_run
from vsae_fast.whole_file import whole_file

FORMAT = 1
SECONDS = 10.0  # between two writings of a network that is being trained
KEY = "vsae_fast_checkpoint"


class Saved(NamedTuple):
    """What a checkpoint holds.

    Attributes
    ----------
    tensors : dict of str to torch.Tensor
    facts : dict
        Plain values.
    """

    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any]


class Checkpoint:
    """Of one network: a file that appears whole or not at all.

    Parameters
    ----------
    path : Path
    training : str
        Digest of what decides the training.
    """

    def __init__(self, path: Path, training: str) -> None:
        self._path, self._training = path, training
        self._written = time.monotonic()

    def load(self) -> Saved | None:
        """Read the state that was written last; None where there is none.

        Raises
        ------
        ValueError
            It is damaged, or that of a training on other data, with other settings or by another version.
        """
        if not self._path.exists():
            return None
        try:
            with safe_open(self._path, framework="pt") as file:
                facts = json.loads((file.metadata() or {})[KEY])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            training = facts.pop("training")
        except (SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"{self._path} is no checkpoint, or it is damaged; delete it to begin anew") from error
        if training != self._training:
            raise ValueError(
                f"{self._path} is of a training on other data, with other settings or by another version; name another "
                "checkpoint_dir, or delete this one to begin anew"
            )
        return Saved(tensors, facts)

    def due(self) -> bool:
        """Whether the last writing is so long ago that the next is worth its time."""
        return time.monotonic() - self._written >= SECONDS

    def save(self, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
        """Replace the file."""
        text = json.dumps({**facts, "training": self._training})
        own = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        with whole_file(self._path) as temporary:
            save_file(own, temporary, metadata={KEY: text})
        self._written = time.monotonic()


class Checkpoints:
    """Of all networks of one fit.

    Parameters
    ----------
    folder : Path
    training : str
        Digest of what decides the training.
    """

    def __init__(self, folder: Path, training: str) -> None:
        self._folder, self._training = folder, training

    def of(self, network: int) -> Checkpoint:
        """Checkpoint of one network by its number."""
        return Checkpoint(self._folder / f"network-{network}.safetensors", self._training)


def digest(tensors: Mapping[str, torch.Tensor], settings: Mapping[str, Any]) -> str:
    """Digest of data and settings; equal where a training would be."""
    sha256 = hashlib.sha256(repr((FORMAT, sorted(settings.items()))).encode())
    for name, tensor in sorted(tensors.items()):
        sha256.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        sha256.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha256.hexdigest()


@contextmanager
def checkpoints_in(
    folder: str | os.PathLike[str] | None,
    rows: tuple[torch.Tensor, torch.Tensor],
    models: Sequence[torch.nn.Module],
    settings: Mapping[str, Any],
) -> Iterator[Checkpoints | None]:
    """Hold a folder of checkpoints, made where it is missing, while a fit is at work in it; None gives None.

    Parameters
    ----------
    folder : path or None
    rows : tuple of torch.Tensor
        Encoded data and mask.
    models : sequence of torch.nn.Module
        Networks that training goes on from, if it does.
    settings : dict
        What else decides its result.

    Raises
    ------
    NotADirectoryError
        It is a file.
    BlockingIOError
        Another fit is at work in it.
    """
    if folder is None:
        yield None
        return
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"checkpoint_dir={str(path)!r} is a file; name a folder")
    tensors = {"x": rows[0], "mask": rows[1]}
    for member, model in enumerate(models):
        tensors |= {f"{member}.{name}": tensor for name, tensor in model.state_dict().items()}
    path.mkdir(parents=True, exist_ok=True)
    with only_run(path):
        yield Checkpoints(path, digest(tensors, settings))
