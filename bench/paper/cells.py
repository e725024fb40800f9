"""What there is to run: one cell for each set, mechanism, missing ratio, method and seed, and how to run it."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from bench import environment
from bench.accuracy.chained import ChainedTrees
from bench.accuracy.linear import MeanAndMode, bayesian_ridge
from bench.baselines.gain import Gain
from bench.baselines.misgan import MisGan
from bench.paper import deep, sets
from bench.paper.printed import TABLES
from vsae_fast import metrics
from vsae_fast.checkpoints import Checkpoint
from vsae_fast.models.matching import n_parameters

SEEDS = (0, 1, 2)
FLOOR = "mean / mode"
# Beside the printed methods: what the orderings are about, and half of the epochs for phase 1, of which a tenth is too
# few steps on small tables.
EXTRA = {"table5": (deep.LONG_PHASE_1,), "table6": ("VAE", "CVAE", "HI-VAE", deep.LONG_PHASE_1)}
GAN_STEPS = 10_000
PIXEL = 255.0


class Cell(NamedTuple):
    """One run.

    Attributes
    ----------
    data : str
    mechanism : {"MCAR", "MAR", "MNAR"}
    missing : float
    method : str
    seed : int
        Of the mask, the split, the parameters and the noise.
    """

    data: str
    mechanism: str
    missing: float
    method: str
    seed: int


class Scale(NamedTuple):
    """How large a run is.

    Attributes
    ----------
    epochs : int or None
        Appendix D's where it is None.
    patience : int or None
        Epochs without a better validation score after which training ends; all epochs are run where it is None.
    n_samples : int
        Importance samples a row.
    n_rows : int or None
        All where it is None.
    gan_steps : int
    n_trees : int
    """

    epochs: int | None = None
    patience: int | None = None
    n_samples: int = 1000
    n_rows: int | None = None
    gan_steps: int = GAN_STEPS
    n_trees: int = 100

    @property
    def name(self) -> str:
        """What tells results of one scale from those of another."""
        if self.n_rows is not None:
            return "quick"
        length = "full" if self.epochs is None else f"{self.epochs} epochs"
        return length if self.patience is None else f"{length}, patience {self.patience}"


QUICK = Scale(epochs=2, n_samples=20, n_rows=200, gan_steps=20, n_trees=5)
UNTRAINED = ("MissForest", "MICE", FLOOR, "GAIN", "MisGAN")  # whose length epochs do not decide


def scale_name(cell: Cell, scale: Scale) -> str:
    """Scale of a cell's result; epochs say nothing about methods without them."""
    return "full" if cell.method in UNTRAINED and scale.n_rows is None else scale.name


def methods_of(table: str) -> tuple[str, ...]:
    """Printed methods, those beside them, and the floor."""
    return (FLOOR, *TABLES[table].rows, *EXTRA.get(table, ()))


def cells_of(table: str, methods: tuple[str, ...] | None = None, seeds: tuple[int, ...] = SEEDS) -> Iterator[Cell]:
    """Cells of one table, all methods of one seed before the next."""
    for seed in seeds:
        seen = set()
        for column in TABLES[table].columns:
            key = (column.data, column.mechanism, column.missing)
            if key in seen:
                continue
            seen.add(key)
            for method in methods_of(table):
                if methods is None or method in methods:
                    yield Cell(*key, method, seed)


def execute(cell: Cell, scale: Scale, folder: str | None, kept: Path, *, keep_model: bool = False) -> dict[str, Any]:
    """Run a cell: scores, seconds and what they were measured on.

    Parameters
    ----------
    cell : Cell
    scale : Scale
    folder : str or None
        Of the data.
    kept : Path
        Folder of checkpoints, which a run that was cut off goes on from, and of networks.
    keep_model : bool
        Whether to keep the network: the figures are drawn with it.
    """
    data = sets.load(cell.data, cell.mechanism, cell.missing, cell.seed, folder, scale.n_rows)
    begin = time.perf_counter()
    details: dict[str, Any] = {}
    if cell.method in deep.METHODS:
        name = model_name(cell, scale)
        kept.mkdir(parents=True, exist_ok=True)
        path = kept / f"{name}.checkpoint"
        fitted = deep.fit(
            cell.method, data, epochs=scale.epochs, patience=scale.patience, n_samples=scale.n_samples, seed=cell.seed,
            checkpoint=Checkpoint(path, name),
        )  # fmt: skip
        completed = fitted.completed
        details = {
            "n_parameters": n_parameters(fitted.model),
            "epochs": len(fitted.history.epoch),
            "best_epoch": fitted.history.best_epoch + 1,
        }
        if keep_model:
            save_file(fitted.model.state_dict(), kept / f"{name}.safetensors")
        path.unlink(missing_ok=True)
    else:
        completed = _other(cell, scale, data)
    seconds = time.perf_counter() - begin
    return {
        **cell._asdict(),
        "scale": scale_name(cell, scale),
        "note": data.note,
        "scores": scores(data, completed),
        "seconds": round(seconds, 2),
        **details,
        "environment": environment.describe(torch.get_num_threads()),
    }


def model_name(cell: Cell, scale: Scale) -> str:
    """Name of the file of a cell's network."""
    name = "-".join(map(str, (*cell, scale.name)))
    return name.replace(", ", "-").replace(" ", "-")


def scores(data: sets.Data, completed: Any) -> dict[str, float]:
    """Errors of the unobserved cells of the test rows: NRMSE and PFC, squared error of blocks."""
    found: dict[str, float] = {}
    if isinstance(data.test, pd.DataFrame):
        for normalize in ("std", "range", "rms"):
            found[f"NRMSE {normalize}"] = metrics.nrmse(data.test, completed, data.test_mask, normalize=normalize)
        found["PFC"] = metrics.pfc(data.test, completed, data.test_mask)
    else:
        for j, (name, truth) in enumerate(data.test.items()):
            if truth.dtype == object:
                found["PFC"] = metrics.pfc(data.test, completed, data.test_mask, columns=[name])
                continue
            # Pixels count from 0 to 1; features, whose printed units are unknown, in standard deviations of the block.
            unit = PIXEL if truth.dtype == np.uint8 else float(data.train[name][data.train_mask[:, j]].std())
            found[f"MSE of {name}"] = metrics.mse(data.test, completed, data.test_mask, columns=[name]) / unit**2
        found["sum of MSE"] = sum(value for name, value in found.items() if name.startswith("MSE"))
    return {name: round(value, 6) for name, value in found.items() if not math.isnan(value)}


def _other(cell: Cell, scale: Scale, data: sets.Data) -> Any:
    known = sets.hide(data.train, data.train_mask)
    if not isinstance(known, pd.DataFrame):
        return _mean_and_mode(known, sets.hide(data.test, data.test_mask))
    if cell.method == FLOOR:
        return MeanAndMode().fit_transform(known)
    imputer: Any
    if cell.method == "MissForest":
        imputer = ChainedTrees("random forest", n_trees=scale.n_trees, seed=cell.seed)
    elif cell.method == "MICE":
        imputer = bayesian_ridge()
    elif cell.method == "GAIN":
        imputer = Gain(scale.gan_steps, cell.seed)
    elif cell.method == "MisGAN":
        imputer = MisGan(scale.gan_steps // MisGan.n_critic, cell.seed)  # as many steps of each critic
    else:
        raise ValueError(f"unknown method {cell.method!r}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return imputer.fit_transform(known)


def _mean_and_mode(train: Any, test: Any) -> Any:
    """Mean image or feature vector, most frequent label."""
    completed = {}
    for name, block in test.items():
        filled = block.copy()
        if block.dtype == object:
            filled[block == None] = pd.Series(train[name]).mode()[0]  # noqa: E711 - elementwise
        else:
            missing = np.isnan(block.reshape(len(block), -1)).all(axis=1)
            filled[missing] = np.nanmean(train[name], axis=0)
        completed[name] = filled
    return completed
