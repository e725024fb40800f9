"""Training steps in one C++ call each, for models on the CPU in single precision."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from typing import TypeGuard

import torch

from vsae_fast import _native
from vsae_fast.baseline_objectives import EvidenceBound, Subsampled
from vsae_fast.models.autoencoder import Autoencoder
from vsae_fast.models.decoders import Decoder
from vsae_fast.models.encoders import AttributiveEncoders, CollectiveEncoder, GroupedEncoder
from vsae_fast.models.hivae import HIVAE
from vsae_fast.models.latent_model import LatentModel
from vsae_fast.models.mvae import MVAE
from vsae_fast.models.vae import CVAE, MIWAE, VAE
from vsae_fast.models.vsae import VSAE
from vsae_fast.objective import HideAndScore, Objective, TwoPhase
from vsae_fast.ops.layout import KIND_CODES

SECONDS_OF_CALL = 0.01  # a small table's step takes as long as what Python does between two

Trainable = VSAE | Autoencoder | VAE | CVAE | MVAE | HIVAE
TrainableObjective = TwoPhase | HideAndScore | EvidenceBound | Subsampled


def supports(model: LatentModel, objective: Objective) -> TypeGuard[Trainable]:
    """Whether the C++ trainer can train this model: in single precision, on the CPU, with an objective of its own.

    Those are the two phases and hide-and-score of a VSAE, an MVAE's bounds of subsets, and the single-sample bound of
    the models with one network: autoencoder, VAE, CVAE, MIWAE's, and an HI-VAE of categories alone, which without
    numbers, whose scales its decoder gives, is a VAE with zeros in the holes. Classes derived from them may change what
    is computed, and train through autograd.
    """
    if type(model) is VSAE:
        known = isinstance(objective, (TwoPhase, HideAndScore))
    elif type(model) is MVAE:
        known = isinstance(objective, Subsampled)
    elif isinstance(model, HIVAE):
        of_categories = all(likelihood == "categorical" for likelihood in model.likelihoods)
        known = type(model) is HIVAE and of_categories and not model.factorised and isinstance(objective, EvidenceBound)
    else:
        known = type(model) in (Autoencoder, VAE, CVAE, MIWAE) and isinstance(objective, EvidenceBound)
    parameter = next(model.parameters())
    return known and parameter.device.type == "cpu" and parameter.dtype == torch.float32


def parameters(model: Trainable) -> list[torch.Tensor]:
    """Parameters and running statistics in the order in which csrc/cpu/network.cpp adds them."""
    tensors: list[torch.Tensor] = []
    if isinstance(model, VSAE):
        tensors += _attributive(model.attributive) + _collective(model.collective) + _decoder(model.decoders.mask)
    elif isinstance(model, MVAE):
        tensors += _attributive(model.experts)
    else:
        assert isinstance(model.encoder, CollectiveEncoder)
        tensors += _collective(model.encoder)
    if isinstance(model, HIVAE):
        no_scales = torch.zeros(model.layout.n_attributes)  # categories have none: it stays as it is
        tensors += [*_decoder(model.decoder), no_scales]
    else:
        context = model.decoders.context
        tensors += _decoder(model.decoders.data) + ([] if context is None else [context.weight])
        tensors.append(model.decoders.raw_scale)
    return [tensor.detach() for tensor in tensors]


def _attributive(encoders: AttributiveEncoders) -> list[torch.Tensor]:
    tensors: list[torch.Tensor] = []
    for encoder in encoders.encoders:
        assert isinstance(encoder, GroupedEncoder)
        tensors += _grouped(encoder)
    return tensors


def _grouped(encoder: GroupedEncoder) -> list[torch.Tensor]:
    tensors: list[torch.Tensor] = []
    for layer, (weight, bias) in enumerate(zip(encoder.weights, encoder.biases, strict=True)):
        tensors += [*weight, *bias]
        if layer < len(encoder.norm_weights):
            tensors += [*encoder.norm_weights[layer], *encoder.norm_biases[layer]]
            tensors += [*encoder.get_buffer(f"running_mean_{layer}"), *encoder.get_buffer(f"running_var_{layer}")]
    return tensors


def _collective(encoder: CollectiveEncoder) -> list[torch.Tensor]:
    tensors: list[torch.Tensor] = []
    body = list(encoder.body)
    for linear, norm in zip(body[0::3], body[1::3], strict=True):
        tensors += _linear(linear) + _norm(norm)
    return tensors + _linear(encoder.head)


def _linear(module: torch.nn.Module) -> list[torch.Tensor]:
    return [module.get_parameter("weight"), module.get_parameter("bias")]


def _norm(module: torch.nn.Module) -> list[torch.Tensor]:
    return [*_linear(module), module.get_buffer("running_mean"), module.get_buffer("running_var")]


def _decoder(decoder: Decoder) -> list[torch.Tensor]:
    first, *rest = decoder.linears
    tensors = _linear(first) + _norm(decoder.norm)
    for linear in rest:
        tensors += _linear(linear)
    return tensors


def _shape(model: Trainable) -> _native.NetworkShape:
    config, layout = model.config, model.layout
    shape = _native.NetworkShape()
    shape.attribute_start, shape.attribute_kind = list(layout.starts), list(layout.kind_codes)
    shape.selective, shape.experts = isinstance(model, VSAE), isinstance(model, MVAE)
    groups = layout.groups(torch.device("cpu")) if shape.selective or shape.experts else ()
    shape.groups = [_native.AttributeGroup(KIND_CODES[g.kind], g.width, list(g.attributes)) for g in groups]
    shape.deterministic = isinstance(model, Autoencoder)
    shape.sees_mask = isinstance(model, (VSAE, CVAE))
    shape.skip, shape.mask_context = shape.selective and config.skip, isinstance(model, CVAE)
    shape.latent_per_attribute = config.latent_per_attribute
    shape.numerical_hidden, shape.categorical_hidden = list(config.numerical_hidden), list(config.categorical_hidden)
    shape.collective_hidden = list(config.collective_hidden)
    shape.mask_hidden, shape.data_hidden = list(config.mask_hidden), list(config.data_hidden)
    shape.linear_tail, shape.noise_fill = config.linear_tail, config.fill == "noise"
    shape.min_scale, shape.negative_slope = config.min_scale, config.negative_slope
    return shape


def _objective(objective: TrainableObjective) -> _native.ObjectiveSettings:
    settings = _native.ObjectiveSettings()
    settings.n_unobserved_samples = objective.n_unobserved_samples if isinstance(objective, TwoPhase) else 0
    if isinstance(objective, HideAndScore):
        settings.n_samples, settings.visible_weight = objective.n_samples, objective.visible_weight
        settings.hidden_low, settings.hidden_high = objective.hidden_share
        settings.n_validation_draws = objective.n_validation_patterns
    else:
        settings.n_samples, settings.visible_weight = 0, 1.0
        settings.hidden_low, settings.hidden_high = 0.0, 0.0
        settings.n_validation_draws = objective.n_validation_samples
    settings.n_subsets = objective.n_subsets if isinstance(objective, Subsampled) else 0
    return settings


class NativeTrainer:
    """A model in the hands of the C++ trainer; :meth:`write_back` brings the torch module up to date.

    Parameters
    ----------
    model : VSAE, Autoencoder, VAE, CVAE, MVAE or HIVAE
    objective : TwoPhase, HideAndScore, EvidenceBound or Subsampled
        See :func:`supports`.
    x : torch.Tensor of float32, shape (N, D)
    mask : torch.Tensor of float32, shape (N, M)
        1 = observed.
    max_rows : int
        Largest batch.
    seed : int
        Of the noise: a step draws what the reference objective would draw from ``StreamDraws(seed)``.
    weight_decay : float
    clip_norm : float or None
    n_threads : int, optional
        torch's own setting where it is left out.

    Attributes
    ----------
    at_once : int
        Steps that a call of :meth:`steps` should take: as many as a hundredth of a second holds.
    """

    def __init__(
        self,
        model: Trainable,
        objective: TrainableObjective,
        x: torch.Tensor,
        mask: torch.Tensor,
        *,
        max_rows: int,
        seed: int,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        n_threads: int | None = None,
    ) -> None:
        self._objective, self.at_once = objective, 1
        self._x, self._mask = x.contiguous(), mask.contiguous()
        if self._x.dtype != torch.float32 or self._mask.dtype != torch.float32:
            raise ValueError(f"the C++ trainer takes float32 tensors, got {x.dtype} and {mask.dtype}")
        self._n_threads = n_threads
        self._weight_decay, self._clip_norm = weight_decay, clip_norm or 0.0
        self._model, self._parameters = model, parameters(model)
        self._copy: tuple[dict[str, torch.Tensor], list[torch.Tensor]] | None = None
        self._trainer = _native.Trainer(_shape(model), _objective(objective), max_rows, seed)
        self._trainer.import_parameters([tensor.data_ptr() for tensor in self._parameters])

    def step(self, rows: torch.Tensor, epoch: int, learning_rate: float) -> float:
        """Update on the rows (int64 indices) and return the loss before the update."""
        return self.steps([rows], epoch, [learning_rate])[0]

    def steps(self, batches: Sequence[torch.Tensor], epoch: int, learning_rates: Sequence[float]) -> list[float]:
        """The same of several batches, one after the other: Python comes between calls, not between steps."""
        second = isinstance(self._objective, TwoPhase) and epoch >= self._objective.warmup_epochs
        begin = time.monotonic()
        losses = self._trainer.steps(
            self._x.data_ptr(),
            self._mask.data_ptr(),
            [rows.data_ptr() for rows in batches],
            [len(rows) for rows in batches],
            second,
            learning_rates,
            self._weight_decay,
            self._clip_norm,
            self._n_threads or torch.get_num_threads(),
        )
        spent = max(time.monotonic() - begin, 1e-9)
        self.at_once = max(int(SECONDS_OF_CALL * len(losses) / spent), 1)
        return losses

    def score(self, x: torch.Tensor, mask: torch.Tensor, seed: int) -> float:
        """Mean validation score of rows; the same numbers as the reference on ``StreamDraws(seed)``."""
        x, mask = x.contiguous(), mask.contiguous()
        score = torch.zeros(x.shape[0], dtype=torch.float64)
        self._trainer.score(x.data_ptr(), mask.data_ptr(), x.shape[0], seed, score.data_ptr())
        return float(score.mean())

    def state(self) -> dict[str, torch.Tensor]:
        """All that training goes on from."""
        state = torch.empty(self._trainer.state_size(), dtype=torch.float32)
        progress = self._trainer.export_state(state.data_ptr())
        return {"state": state, "progress": torch.tensor(progress, dtype=torch.int64)}

    def load_state(self, saved: Mapping[str, torch.Tensor]) -> None:
        """Go on from what :meth:`state` gave.

        Raises
        ------
        ValueError
            It is that of another network.
        """
        state, progress = saved["state"].contiguous(), saved["progress"].tolist()
        if state.shape != (self._trainer.state_size(),) or state.dtype != torch.float32:
            raise ValueError(f"the state of this network has {self._trainer.state_size()} numbers, got {len(state)}")
        self._trainer.import_state(state.data_ptr(), *progress)

    def copy_state(self) -> dict[str, torch.Tensor]:
        """The torch module's parameters and running statistics as they would be now.

        Every call fills the same tensors: on small tables a fifth of the training went into making new ones.
        """
        if self._copy is None:
            twin = copy.deepcopy(self._model)
            self._copy = twin.state_dict(), parameters(twin)
        state, tensors = self._copy
        self._trainer.export_parameters([tensor.data_ptr() for tensor in tensors])
        return state

    def write_back(self) -> None:
        """Copy parameters and running statistics into the torch module."""
        self._trainer.export_parameters([tensor.data_ptr() for tensor in self._parameters])
