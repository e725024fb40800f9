"""HI-VAE: a VAE with a likelihood of its own for every kind of attribute (Nazabal et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, Literal, NamedTuple, get_args

import torch

from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.decoders import Decoder
from vsae_fast.models.encoders import AttributiveEncoders, CollectiveEncoder
from vsae_fast.models.latent_model import LatentModel, Proposal, Rows
from vsae_fast.models.likelihoods import (
    LIKELIHOODS,
    Likelihood,
    Standardisation,
    expected,
    log_likelihood,
    n_parameters,
)
from vsae_fast.models.mvae import product_of_experts
from vsae_fast.ops.elbo import gaussian_kl
from vsae_fast.ops.folded_decoders import FLOATS_AT_ONCE
from vsae_fast.ops.importance_impute import Imputation
from vsae_fast.ops.layout import AttributeLayout

EncoderName = Literal["dropout", "factorised"]
NEEDS_UNITS = ("positive", "count")


class _Group(NamedTuple):
    """Attributes of one likelihood and width: parameters (..., G, P), values (..., G, W), units (G, W)."""

    likelihood: Likelihood
    parameters: torch.Tensor
    value: torch.Tensor
    unit: Standardisation
    centre: torch.Tensor
    spread: torch.Tensor


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
        self.n_parameters = [n_parameters(*pair) for pair in zip(self.likelihoods, layout.widths, strict=True)]
        c = self.config
        self.decoder = Decoder(
            self.n_latent, c.data_hidden, sum(self.n_parameters), c.negative_slope, linear_tail=c.linear_tail
        )
        self._register_groups()

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
        likelihood = self._log_likelihood(parameters, self._observed(x, mask))
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
        widest = max(sum(self.n_parameters), *self.config.data_hidden)
        n_chunk = max(1, FLOATS_AT_ONCE // (len(latent_noise) * widest))
        parts = [
            self._impute(x[i : i + n_chunk], mask[i : i + n_chunk], latent_noise, visible_weight)
            for i in range(0, max(len(x), 1), n_chunk)
        ]
        return Imputation(*(torch.cat(fields) for fields in zip(*parts, strict=True)))

    def _impute(self, x: torch.Tensor, mask: torch.Tensor, noise: torch.Tensor, visible_weight: float) -> Imputation:
        proposal = self.encode(x, mask)
        z = proposal.sample(noise.unsqueeze(1))  # [K, N, L]
        _, parameters = self.decode(z)
        likelihood = self._log_likelihood(parameters, self._observed(x, mask))  # [K, N, M]
        ratio = 0.5 * ((noise**2).sum(-1).unsqueeze(-1) - (z**2).sum(-1) + proposal.log_variance.sum(-1))
        log_w = (visible_weight * (mask * likelihood).sum(-1) + ratio).double()
        weight = torch.softmax(log_w, 0)
        value = (weight.unsqueeze(-1) * self._expected(parameters)).sum(0).to(x.dtype)
        return Imputation(
            torch.where(self.layout.expand(mask) > 0, x, value),
            torch.logsumexp(log_w, 0) - torch.log(torch.tensor(float(len(noise)))),
            1 / (weight**2).sum(0),
            torch.full((len(x),), len(noise), dtype=torch.int32, device=x.device),
            x.new_empty(len(x), 0, x.shape[1]),
        )

    def _observed(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Rows with the mean in the holes: what stands there must not even reach a gradient as infinity."""
        return torch.where(self.layout.expand(mask) > 0, x, 0.0)

    def _groups(self, parameters: torch.Tensor, x: torch.Tensor) -> Iterator[_Group]:
        """What the attributes of each likelihood and width have in common: a few operations serve all of them."""
        outputs = parameters.index_select(-1, self.get_buffer("output_order")).split(self.group_outputs, -1)
        order = self.get_buffer("column_order")
        columns = [
            by_column.index_select(-1, order).split(self.group_columns, -1)
            for by_column in (x, self.get_buffer("mean"), self.get_buffer("std"))
        ]
        for (likelihood, width), own, *named in zip(self.group_keys, outputs, *columns, strict=True):
            value, centre, spread = (of_group.unflatten(-1, (-1, width)) for of_group in named)
            if likelihood == "positive":
                unit = Standardisation(torch.log(centre), spread / centre)
            elif likelihood == "count":
                unit = Standardisation(torch.zeros_like(centre), centre)
            else:
                unit = Standardisation(torch.zeros_like(centre), torch.ones_like(spread))
            own = own.unflatten(-1, (-1, n_parameters(likelihood, width)))
            yield _Group(likelihood, own, value, unit, centre, spread)

    def _log_likelihood(self, parameters: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Of each attribute, (..., M); densities of numbers are those of the encoded, standardised values."""
        terms = []
        for likelihood, own, value, unit, centre, spread in self._groups(parameters, x):
            if likelihood in NEEDS_UNITS:
                value = centre + spread * value
            term = log_likelihood(likelihood, own, value, unit)  # [..., G]
            terms.append(term + torch.log(spread).sum(-1) if likelihood == "positive" else term)
        return torch.cat(terms, -1).index_select(-1, self.get_buffer("attribute_position"))

    def _expected(self, parameters: torch.Tensor) -> torch.Tensor:
        """Expected values of the encoded columns, (..., D)."""
        values = []
        no_values = self.get_buffer("mean")
        for likelihood, own, _, unit, centre, spread in self._groups(parameters, no_values):
            value = expected(likelihood, own, unit)  # [..., G, width]
            values.append(((value - centre) / spread if likelihood in NEEDS_UNITS else value).flatten(-2))
        return torch.cat(values, -1).index_select(-1, self.get_buffer("column_position"))

    def _register_groups(self) -> None:
        """Order of the decoder's outputs and of the columns by groups of one likelihood and width, and the way back."""
        groups: dict[tuple[Likelihood, int], list[int]] = {}
        for attribute, key in enumerate(zip(self.likelihoods, self.layout.widths, strict=True)):
            groups.setdefault(key, []).append(attribute)
        self.group_keys = list(groups)
        self.group_columns = [len(members) * width for (_, width), members in groups.items()]
        self.group_outputs = [len(members) * n_parameters(*key) for key, members in groups.items()]
        order = [attribute for members in groups.values() for attribute in members]
        first_output = [0, *accumulate(self.n_parameters)]
        outputs = [c for i in order for c in range(first_output[i], first_output[i + 1])]
        columns = [c for i in order for c in range(self.layout.starts[i], self.layout.starts[i + 1])]
        for name, index in (
            ("output_order", torch.tensor(outputs)),
            ("column_order", torch.tensor(columns)),
            ("column_position", torch.argsort(torch.tensor(columns))),
            ("attribute_position", torch.argsort(torch.tensor(order))),
        ):
            self.register_buffer(name, index, persistent=False)


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
