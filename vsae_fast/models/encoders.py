"""Proposal networks: one small encoder per attribute, and the collective one (appendix C.1)."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import nn

from vsae_fast.models.batch_norm import fold_norm
from vsae_fast.models.config import NetworkConfig
from vsae_fast.ops.fill_unobserved import fill_unobserved
from vsae_fast.ops.folded_decoders import DenseLayer
from vsae_fast.ops.grouped_mlp import BatchNormState, grouped_mlp
from vsae_fast.ops.layout import AttributeGroup, AttributeLayout, gather_group
from vsae_fast.ops.propose import LOG_VARIANCE_LIMIT


def clamp_log_variance(value: torch.Tensor) -> torch.Tensor:
    """Keep log-variances of proposals in a range where exp and its gradient are tame."""
    return value.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)


class GroupedEncoder(nn.Module):
    """Attributive encoders of the ``G`` attributes of one group, and their heads for mean and log-variance."""

    def __init__(self, group: AttributeGroup, hidden: tuple[int, ...], n_latent: int, negative_slope: float) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        n_groups = len(group.attributes)
        sizes = (group.width, *hidden, 2 * n_latent)
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for n_in, n_out in pairwise(sizes):
            bound = 1 / math.sqrt(n_in)  # nn.Linear's default
            self.weights.append(nn.Parameter(torch.empty(n_groups, n_in, n_out).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.empty(n_groups, n_out).uniform_(-bound, bound)))
        self.norm_weights = nn.ParameterList(nn.Parameter(torch.ones(n_groups, width)) for width in hidden)
        self.norm_biases = nn.ParameterList(nn.Parameter(torch.zeros(n_groups, width)) for width in hidden)
        for layer, width in enumerate(hidden):
            self.register_buffer(f"running_mean_{layer}", torch.zeros(n_groups, width))
            self.register_buffer(f"running_var_{layer}", torch.ones(n_groups, width))

    def forward(self, x: torch.Tensor, mask: torch.Tensor, group: AttributeGroup) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (N, D) and (N, M) to mean and log-variance, each (N, G, latent); ``group`` is on the device of x."""
        norms = [
            BatchNormState(
                self.norm_weights[layer],
                self.norm_biases[layer],
                getattr(self, f"running_mean_{layer}"),
                getattr(self, f"running_var_{layer}"),
            )
            for layer in range(len(self.norm_weights))
        ]
        head = grouped_mlp(
            gather_group(x, group, 0.0),
            mask[:, group.members],
            list(self.weights),
            list(self.biases),
            norms,
            self.training,
            self.negative_slope,
        )
        mean, log_variance = head.chunk(2, dim=-1)
        return mean, clamp_log_variance(log_variance)

    @torch.no_grad()
    def fold(self) -> tuple[DenseLayer, ...]:
        """Evaluation-mode layers in float64 with batch normalisation inside: weights (G, out, in), biases (G, out)."""
        folded = []
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            weight, bias = weight.double().transpose(1, 2), bias.double()
            hidden = layer < len(self.norm_weights)
            if hidden:
                variance = self.get_buffer(f"running_var_{layer}").double()
                factor = self.norm_weights[layer].double() * torch.rsqrt(variance + BatchNormState.eps)
                weight = factor.unsqueeze(-1) * weight
                bias = (bias - self.get_buffer(f"running_mean_{layer}").double()) * factor
                bias = bias + self.norm_biases[layer].double()
            folded.append(DenseLayer(weight, bias, hidden))
        return tuple(folded)


class AttributiveEncoders(nn.Module):
    """All attributive networks: attribute i alone decides block i of the proposal."""

    def __init__(self, layout: AttributeLayout, config: NetworkConfig) -> None:
        super().__init__()
        self.layout = layout
        groups = layout.groups(torch.device("cpu"))
        hidden = {"numerical": config.numerical_hidden, "categorical": config.categorical_hidden}
        self.encoders = nn.ModuleList(
            GroupedEncoder(group, hidden[group.kind], config.latent_per_attribute, config.negative_slope)
            for group in groups
        )
        order = torch.tensor([attribute for group in groups for attribute in group.attributes])
        self.register_buffer("position", torch.argsort(order), persistent=False)  # of each attribute among the groups'

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (N, D) and (N, M) to mean and log-variance, each (N, M, latent)."""
        groups = self.layout.groups(x.device)
        parts = (encoder(x, mask, group) for encoder, group in zip(self.encoders, groups, strict=True))
        means, log_variances = zip(*parts, strict=True)
        position = self.get_buffer("position")
        return torch.cat(means, 1)[:, position], torch.cat(log_variances, 1)[:, position]


class CollectiveEncoder(nn.Module):
    """One network over everything observed and the mask; decides the blocks of unobserved attributes.

    Parameters
    ----------
    layout : AttributeLayout
    config : NetworkConfig
    sees_mask : bool
        Whether the mask is an input; without it the network cannot tell a hole's fill from a value.
    """

    def __init__(self, layout: AttributeLayout, config: NetworkConfig, *, sees_mask: bool = True) -> None:
        super().__init__()
        self.layout = layout
        self.fill = config.fill
        self.n_inputs = layout.n_columns + (layout.n_attributes if sees_mask else 0)
        sizes = (self.n_inputs, *config.collective_hidden)
        body: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            body += [nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.LeakyReLU(config.negative_slope)]
        self.body = nn.Sequential(*body)
        self.n_latent = layout.n_attributes * config.latent_per_attribute
        self.head = nn.Linear(sizes[-1], 2 * self.n_latent)

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor, noise: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return mean and log-variance (N, L) and the last hidden vector (N, H); ``noise`` (N or 1, D) fills holes."""
        filled = fill_unobserved(x, mask, noise if self.fill == "noise" else None, self.layout)
        hidden = self.body(filled[:, : self.n_inputs])
        mean, log_variance = self.head(hidden).chunk(2, dim=-1)
        return mean, clamp_log_variance(log_variance), hidden

    @torch.no_grad()
    def fold(self) -> tuple[tuple[DenseLayer, ...], DenseLayer]:
        """Body and head in evaluation mode in float64, batch normalisation inside the layers before it."""
        modules = list(self.body)
        body = tuple(
            DenseLayer(*fold_norm(linear, norm), activation=True)
            for linear, norm in zip(modules[0::3], modules[1::3], strict=True)
        )
        return body, DenseLayer(self.head.weight.double(), self.head.bias.double(), activation=False)
