"""HI-VAE: a VAE with a likelihood of its own for every kind of attribute (Nazabal et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch.nn import functional

from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.decoders import Decoder
from vsae_fast.models.encoders import AttributiveEncoders, CollectiveEncoder
from vsae_fast.models.grouped_likelihoods import (
    NEEDS_UNITS,
    GroupedLikelihoods,
    Units,
    spans_of_columns,
    spans_of_outputs,
)
from vsae_fast.models.latent_model import LatentModel, Proposal, Rows
from vsae_fast.models.likelihoods import LIKELIHOODS, Likelihood, expected, log_likelihood
from vsae_fast.models.mvae import product_of_experts
from vsae_fast.ops.elbo import gaussian_kl
from vsae_fast.ops.folded_decoders import FLOATS_AT_ONCE
from vsae_fast.ops.importance_impute import Imputation
from vsae_fast.ops.layout import AttributeLayout

EncoderName = Literal["dropout", "factorised"]


WIDE = 64  # columns of a number from which its likelihood is worth computing only in the rows that have it


class HIVAE(LatentModel):
    """VAE with heterogeneous likelihoods whose scales the decoder gives; ``mask`` is 1 where an attribute is observed.

    The prior of z is a standard normal, as in the other models here, in place of the original's Gaussian mixture.

    Parameters
    ----------
    layout : AttributeLayout
    config : NetworkConfig, optional
        Its ``fill`` is not read: holes are zeros (input dropout).
    likelihoods : sequence of {"real", "positive", "count", "categorical", "ordinal"}, optional
        Of each attribute; ``"real"`` for numbers and ``"categorical"`` for levels where they are left out.
    mean, std : torch.Tensor, shape (D,), optional
        What the encoding of the rows subtracted and divided by; needed for positive and count attributes.
    encoder : {"dropout", "factorised"}
        One network that sees zeros in the holes, or a product of one expert for each observed attribute.

    Raises
    ------
    ValueError
        Likelihoods that do not fit the layout, or units that are missing.
    """

    def __init__(
        self,
        layout: AttributeLayout,
        config: NetworkConfig | None = None,
        *,
        likelihoods: Sequence[Likelihood] | None = None,
        mean: torch.Tensor | None = None,
        std: torch.Tensor | None = None,
        encoder: EncoderName = "dropout",
    ) -> None:
        super().__init__(layout, replace(config or NetworkConfig(), fill="zero"))
        self.likelihoods = _check(layout, likelihoods, mean, std)
        if encoder not in get_args(EncoderName):
            raise ValueError(f"unknown encoder {encoder!r}; use one of {get_args(EncoderName)}")
        self.factorised = encoder == "factorised"
        self.encoder: AttributiveEncoders | CollectiveEncoder
        if self.factorised:
            self.encoder = AttributiveEncoders(layout, replace(self.config, latent_per_attribute=self.n_latent))
        else:
            self.encoder = CollectiveEncoder(layout, self.config, sees_mask=False)
        self.register_buffer("mean", torch.zeros(layout.n_columns) if mean is None else mean.float().clone())
        self.register_buffer("std", torch.ones(layout.n_columns) if std is None else std.float().clone())
        self.outputs, self.columns = spans_of_outputs(layout, self.likelihoods), spans_of_columns(layout)
        c = self.config
        self.decoder = Decoder(
            self.n_latent, c.data_hidden, self.outputs[-1].stop, c.negative_slope, linear_tail=c.linear_tail
        )
        kinds = list(zip(self.likelihoods, layout.widths, strict=True))
        self.wide = [j for j, (likelihood, width) in enumerate(kinds) if likelihood == "real" and width >= WIDE]
        narrow = [j for j in range(layout.n_attributes) if j not in self.wide]
        self.grouped = GroupedLikelihoods(layout, self.likelihoods, range(layout.n_attributes))
        self.narrow = GroupedLikelihoods(layout, self.likelihoods, narrow) if narrow else None

    def encode(self, x: Rows, mask: torch.Tensor, noise: torch.Tensor | None = None) -> Proposal:
        """Propose latents; ``noise`` is unused. See :meth:`LatentModel.encode`."""
        x = self.layout.join(x)
        if self.factorised:
            mean, log_variance = self.encoder(x, mask)  # each [N, M, L]
            return Proposal(*product_of_experts(mean, log_variance, mask), mask)
        return Proposal(*self.encoder(x, mask, None))

    def decode(self, z: torch.Tensor, hidden: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of 0 for the mask, which is not modelled, and the likelihoods' parameters (..., P)."""
        del hidden
        output = self.decoder(z)
        return output.new_zeros(*z.shape[:-1], self.layout.n_attributes), output

    def elbo(
        self,
        x: Rows,
        mask: torch.Tensor,
        *,
        latent_noise: torch.Tensor,
        fill_noise: torch.Tensor | None = None,
        target: torch.Tensor | None = None,
        target_variance: torch.Tensor | None = None,
        attribute_weight: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Evidence lower bound of each row in nats; no targets but the rows. See :meth:`LatentModel.elbo`."""
        if target is not None or target_variance is not None:
            raise ValueError("HIVAE scores the rows themselves; leave target and target_variance out")
        x = self.layout.join(x)
        proposal = self.encode(x, mask, fill_noise)
        _, parameters = self.decode(proposal.sample(latent_noise))
        weight = mask if attribute_weight is None else attribute_weight
        parameters = self.grouped.parameters_of(parameters)
        likelihood = self.grouped.log_likelihood(parameters, self._observed(x, mask), self._units())
        return (weight * likelihood).sum(-1) - gaussian_kl(proposal.mean, proposal.log_variance).sum(-1)

    @torch.no_grad()
    def impute(
        self,
        x: Rows,
        mask: torch.Tensor,
        latent_noise: torch.Tensor,
        *,
        visible_weight: float = 1.0,
        n_draws: int = 0,
        **options: Any,
    ) -> Imputation:
        """Impute by importance sampling with shared noise (K, L), in plain PyTorch; draws are not supported.

        The kernels' likelihoods have one scale for each attribute, these have one for each sample. Parameters are those
        of :meth:`LatentModel.impute`; options that choose a kernel are unused.
        """
        del options
        self._require_evaluation("impute")
        x = self.layout.join(x)
        if n_draws:
            raise ValueError("HIVAE.impute gives expected values only; use n_draws=0")
        widest = max(self.outputs[-1].stop, *self.config.data_hidden)
        n_chunk = max(1, FLOATS_AT_ONCE // (len(latent_noise) * widest))
        parts = [
            self._impute(x[i : i + n_chunk], mask[i : i + n_chunk], latent_noise, visible_weight)
            for i in range(0, max(len(x), 1), n_chunk)
        ]
        return Imputation(*(torch.cat(fields) for fields in zip(*parts, strict=True)))

    def _impute(self, x: torch.Tensor, mask: torch.Tensor, noise: torch.Tensor, visible_weight: float) -> Imputation:
        proposal = self.encode(x, mask)
        z = proposal.sample(noise.unsqueeze(1))  # [K, N, L]
        hidden = self.decoder.last_hidden(z)
        parameters = None if self.narrow is None else self._output(hidden, self.narrow.outputs)
        ratio = 0.5 * ((noise**2).sum(-1).unsqueeze(-1) - (z**2).sum(-1) + proposal.log_variance.sum(-1))
        log_w = (visible_weight * self._evidence(hidden, parameters, x, mask) + ratio).double()
        weight = torch.softmax(log_w, 0)
        value = self._weighted_mean(hidden, parameters, weight.to(x.dtype))
        return Imputation(
            torch.where(self.layout.expand(mask) > 0, x, value),
            torch.logsumexp(log_w, 0) - torch.log(torch.tensor(float(len(noise)))),
            1 / (weight**2).sum(0),
            torch.full((len(x),), len(noise), dtype=torch.int32, device=x.device),
            x.new_empty(len(x), 0, x.shape[1]),
        )

    def _evidence(
        self, hidden: torch.Tensor, parameters: torch.Tensor | None, x: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Log-likelihood of each sample and row's observed attributes, (K, N); ``parameters`` of the narrow ones."""
        total = hidden.new_zeros(hidden.shape[:-1])
        for j in self.wide:
            rows = mask[:, j].nonzero().squeeze(-1)
            value = x[rows, self.columns[j].start : self.columns[j].stop]
            own = self._output(hidden.index_select(1, rows), slice(self.outputs[j].start, self.outputs[j].stop))
            total.index_add_(1, rows, log_likelihood("real", own, value, None))
        if self.narrow is not None and parameters is not None:
            each = self.narrow.log_likelihood(parameters, self._observed(x, mask), self._units())
            total += (mask.index_select(-1, self.narrow.attributes) * each).sum(-1)
        return total

    def _weighted_mean(
        self, hidden: torch.Tensor, parameters: torch.Tensor | None, weight: torch.Tensor
    ) -> torch.Tensor:
        """Expected values (N, D), averaged over the samples with their weights (K, N)."""
        value = hidden.new_empty(hidden.shape[1], self.layout.n_columns)
        mean = torch.einsum("kn,knh->nh", weight, hidden)  # all that a value needs which is linear in it
        for j in self.wide:
            own = self._output(mean, slice(self.outputs[j].start, self.outputs[j].stop))
            value[:, self.columns[j].start : self.columns[j].stop] = expected("real", own, None)
        if self.narrow is not None and parameters is not None:
            value[:, self.narrow.own_columns] = self.narrow.expected(parameters, weight, self._units())
        return value

    def _output(self, hidden: torch.Tensor, outputs: slice | torch.Tensor) -> torch.Tensor:
        """Some columns of the decoder's output."""
        layer = self.decoder.linears[-1]
        return functional.linear(hidden, layer.get_parameter("weight")[outputs], layer.get_parameter("bias")[outputs])

    def _units(self) -> Units:
        return self.get_buffer("mean"), self.get_buffer("std")

    def _observed(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Rows with the mean in the holes: what stands there must not even reach a gradient as infinity."""
        return torch.where(self.layout.expand(mask) > 0, x, 0.0)


def _check(
    layout: AttributeLayout,
    likelihoods: Sequence[Likelihood] | None,
    mean: torch.Tensor | None,
    std: torch.Tensor | None,
) -> tuple[Likelihood, ...]:
    """Likelihoods that fit the layout."""
    if likelihoods is None:
        return tuple("real" if kind == "numerical" else "categorical" for kind in layout.kinds)
    if len(likelihoods) != layout.n_attributes:
        raise ValueError(f"likelihoods has {len(likelihoods)} entries, but there are {layout.n_attributes} attributes")
    for attribute, (likelihood, kind) in enumerate(zip(likelihoods, layout.kinds, strict=True)):
        if likelihood not in LIKELIHOODS:
            raise ValueError(f"attribute {attribute}: unknown likelihood {likelihood!r}; use one of {LIKELIHOODS}")
        if (likelihood in ("categorical", "ordinal")) != (kind == "categorical"):
            raise ValueError(f"attribute {attribute} is {kind} and cannot have the likelihood {likelihood!r}")
    if any(likelihood in NEEDS_UNITS for likelihood in likelihoods) and (mean is None or std is None):
        raise ValueError("positive and count attributes need mean and std, the encoding's")
    return tuple(likelihoods)
