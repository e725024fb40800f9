"""Deep latent-variable models by name: one training loop, one imputation."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from bench.paper.sets import BoolArray, Data, hide
from vsae_fast.baseline_objectives import EvidenceBound, ImportanceWeighted, Subsampled
from vsae_fast.checkpoints import Checkpoint
from vsae_fast.filling import fill
from vsae_fast.models.autoencoder import Autoencoder
from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.hivae import HIVAE
from vsae_fast.models.latent_model import LatentModel
from vsae_fast.models.likelihoods import Likelihood
from vsae_fast.models.matching import widened
from vsae_fast.models.mvae import MVAE
from vsae_fast.models.vae import CVAE, MIWAE, VAE
from vsae_fast.models.vsae import VSAE
from vsae_fast.objective import Objective, TwoPhase
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.presets import paper
from vsae_fast.table.containers import read_table
from vsae_fast.table.encode import encode
from vsae_fast.table.mask import observed_cells
from vsae_fast.table.protocols import Table
from vsae_fast.table.schema import Schema, detect_schema
from vsae_fast.training import History, train

Build = Callable[[AttributeLayout, NetworkConfig], LatentModel]


class Method(NamedTuple):
    """How to build a model, and what it maximises; phase 1 takes a share of the epochs where there are two phases."""

    build: Callable[[Schema], Build]
    objective: Objective
    phase_1: float = 0.1


def _plain(model: type[LatentModel]) -> Callable[[Schema], Build]:
    return lambda schema: model


def _hivae(schema: Schema) -> Build:
    """HI-VAE with a log-normal likelihood for every column of positive numbers, as its authors set it up."""
    columns = [schema.columns[j] for j in schema.modelled]
    likelihoods: list[Likelihood] = []
    mean, std = [], []
    for column in columns:
        positive = column.kind in ("numerical", "integer") and column.low is not None and column.low > 0
        likelihoods.append(
            "categorical" if column.attribute_kind == "categorical" else "positive" if positive else "real"
        )
        number = column.attribute_kind == "numerical"
        mean += [column.mean if number else 0.0] * column.width
        std += [column.std if number else 1.0] * column.width

    def build(layout: AttributeLayout, config: NetworkConfig) -> LatentModel:
        return HIVAE(layout, config, likelihoods=likelihoods, mean=torch.tensor(mean), std=torch.tensor(std))

    return build


LONG_PHASE_1 = "VSAE with long phase 1"
METHODS: dict[str, Method] = {
    "AE": Method(_plain(Autoencoder), EvidenceBound(n_validation_samples=1)),
    "VAE": Method(_plain(VAE), EvidenceBound()),
    "CVAE": Method(_plain(CVAE), EvidenceBound()),
    "MVAE": Method(_plain(MVAE), Subsampled()),
    "HI-VAE": Method(_hivae, EvidenceBound()),
    "MIWAE": Method(_plain(MIWAE), ImportanceWeighted()),
    "VSAE": Method(_plain(VSAE), TwoPhase()),
    LONG_PHASE_1: Method(_plain(VSAE), TwoPhase(), phase_1=0.5),
}


class Fit(NamedTuple):
    """A trained model, and the completed test rows.

    Attributes
    ----------
    model : LatentModel
    schema : Schema
    history : History
    completed : table of the type of the data
    """

    model: LatentModel
    schema: Schema
    history: History
    completed: Any


def known_cells(X: Any, mask: BoolArray) -> tuple[Table, BoolArray]:
    """Rows without their hidden cells, and which cells are left."""
    table = read_table(hide(X, mask))
    return table, observed_cells(table, None)


def fit(
    name: str,
    data: Data,
    *,
    epochs: int | None,
    n_samples: int,
    seed: int,
    patience: int | None = None,
    checkpoint: Checkpoint | None = None,
) -> Fit:
    """Train a model on the training rows' observed cells and complete the test rows.

    The validation rows choose the epoch: by the bound for tables, by the error on hidden attributes for blocks.

    Parameters
    ----------
    name : str
        Key of ``METHODS``.
    data : Data
    epochs : int or None
        Appendix D's where it is None.
    n_samples : int
        Importance samples a row.
    seed : int
        Of parameters, batches and noise.
    patience : int, optional
        Epochs without a better validation score after which training ends; with two phases, those of phase 1 on top,
        so that phase 2 always has its chance.
    checkpoint : Checkpoint, optional
        That training goes on from.
    """
    table, observed = known_cells(data.train, data.train_mask)
    columns = table.columns()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Columns kept out of the model")
        schema = detect_schema(columns, observed, data.schema)
    x, mask, _ = encode(schema, columns, observed)
    layout = schema.layout()
    preset = paper(layout)
    plan = replace(preset.plan, validation_fraction=data.validation_fraction, patience=patience)
    if epochs is not None:
        plan = replace(plan, epochs=epochs)
    method = METHODS[name]
    build, objective = method.build(schema), method.objective
    if isinstance(objective, TwoPhase):
        objective = replace(objective, warmup_epochs=max(int(method.phase_1 * plan.epochs), 1))
        if patience is not None:
            plan = replace(plan, patience=patience + objective.warmup_epochs)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = preset.network if build is VSAE else widened(build, layout, preset.network)
        model = build(layout, config)
    generator = torch.Generator().manual_seed(seed)
    history = train(
        model, torch.from_numpy(x), torch.from_numpy(mask), objective, plan, generator, checkpoint=checkpoint
    )
    return Fit(model, schema, history, complete(model, schema, data, n_samples, seed))


def complete(model: LatentModel, schema: Schema, data: Data, n_samples: int, seed: int) -> Any:
    """Test rows, completed by importance sampling; each row's holes have their own noise."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n_samples, model.n_latent, generator=generator)

    def values(x: torch.Tensor, mask: torch.Tensor, start: int) -> torch.Tensor:
        del start
        holes = torch.randn(x.shape, generator=generator) if model.config.fill == "noise" else None
        imputed: torch.Tensor = model.impute(x, mask, noise, fill_noise=holes).imputed
        return imputed

    result, _ = fill(schema, *known_cells(data.test, data.test_mask), values)
    return result
