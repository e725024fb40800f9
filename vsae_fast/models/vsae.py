"""The Variational Selective Autoencoder (Gong et al., AISTATS 2021)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.decoders import Decoders
from vsae_fast.models.encoders import AttributiveEncoders, CollectiveEncoder, GroupedEncoder
from vsae_fast.ops.draws import TorchDraws
from vsae_fast.ops.elbo import elbo
from vsae_fast.ops.folded_decoders import FoldedDecoders
from vsae_fast.ops.folded_encoders import FoldedEncoders
from vsae_fast.ops.importance_impute import Imputation, importance_impute
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.ops.sample_moments import sample_data


class Proposal(NamedTuple):
    """``q(z | x_o, m)``, and the collective network's last hidden vector.

    Attributes
    ----------
    mean, log_variance : torch.Tensor, shape (N, L)
    hidden : torch.Tensor, shape (N, H)
    """

    mean: torch.Tensor
    log_variance: torch.Tensor
    hidden: torch.Tensor

    @property
    def scale(self) -> torch.Tensor:
        """Standard deviation, shape (N, L)."""
        return torch.exp(0.5 * self.log_variance)

    def sample(self, noise: torch.Tensor) -> torch.Tensor:
        """Latents (..., N, L) for standard normal noise of that shape."""
        return self.mean + self.scale * noise


class VSAE(nn.Module):
    """Latent-variable model of heterogeneous, partially observed rows; ``mask`` is 1 where an attribute is observed.

    ``q(z_i)`` comes from attribute i's own encoder where it is observed and from the collective encoder where it is
    not.

    Parameters
    ----------
    layout : AttributeLayout
        Kinds and widths of the ``M`` attributes.
    config : NetworkConfig, optional
        The paper's architecture where it is left out.

    Notes
    -----
    Inputs are encoded rows ``x`` of shape (N, D) (standardised numbers, one-hot categories; anything finite where
    unobserved) and masks of shape (N, M). :class:`~vsae_fast.VSAEImputer` does the encoding for tables.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> model = VSAE(AttributeLayout(("numerical", "categorical"), (1, 3))).eval()
    >>> x, mask = torch.zeros(5, 4), torch.ones(5, 2)
    >>> model.encode(x, mask).mean.shape
    torch.Size([5, 4])
    """

    def __init__(self, layout: AttributeLayout, config: NetworkConfig | None = None) -> None:
        super().__init__()
        self.layout = layout
        self.config = config or NetworkConfig()
        self.attributive = AttributiveEncoders(layout, self.config)
        self.collective = CollectiveEncoder(layout, self.config)
        self.decoders = Decoders(layout, self.config)

    @property
    def n_latent(self) -> int:
        """``L``, over all attributes."""
        return self.layout.n_attributes * self.config.latent_per_attribute

    def encode(self, x: torch.Tensor, mask: torch.Tensor, noise: torch.Tensor | None = None) -> Proposal:
        """Propose latents.

        Parameters
        ----------
        x : torch.Tensor, shape (N, D)
        mask : torch.Tensor, shape (N, M)
            1 = observed.
        noise : torch.Tensor, shape (N, D) or (D,), optional
            Standard normal, for the holes of the collective input; zeros where it is left out or ``config.fill`` says
            so.

        Returns
        -------
        Proposal
        """
        own_mean, own_log_variance = self.attributive(x, mask)  # [N, M, latent]
        mean, log_variance, hidden = self.collective(x, mask, noise)
        observed = (mask > 0).unsqueeze(-1)
        shape = own_mean.shape
        return Proposal(
            torch.where(observed, own_mean, mean.view(shape)).flatten(1),
            torch.where(observed, own_log_variance, log_variance.view(shape)).flatten(1),
            hidden,
        )

    def decode(self, z: torch.Tensor, hidden: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Mask logits (..., M) and outputs (..., D) of latents (..., L); ``hidden`` (N, H) feeds the skip path."""
        mask_logits, output = self.decoders(z, hidden)
        return mask_logits, output

    def elbo(
        self,
        x: torch.Tensor,
        mask: torch.Tensor,
        *,
        latent_noise: torch.Tensor,
        fill_noise: torch.Tensor | None = None,
        target: torch.Tensor | None = None,
        target_variance: torch.Tensor | None = None,
        attribute_weight: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Evidence lower bound of each row in nats, for one sample of z.

        Parameters
        ----------
        x : torch.Tensor, shape (N, D)
        mask : torch.Tensor, shape (N, M)
            1 = observed.
        latent_noise : torch.Tensor, shape (N, L)
            Standard normal.
        fill_noise : torch.Tensor, shape (N, D), optional
        target : torch.Tensor, shape (N, D), optional
            What the data decoder is scored on; ``x`` where it is left out. Phase 2 passes observed values and the
            moments of the sampled ones.
        target_variance : torch.Tensor, shape (N, D), optional
        attribute_weight : torch.Tensor, shape (N, M), optional
            Weight of each attribute's likelihood: the mask (default) gives the bound on log p(x_o, m), ones the
            complete-data bound.

        Returns
        -------
        torch.Tensor, shape (N,)
        """
        proposal = self.encode(x, mask, fill_noise)
        mask_logits, output = self.decode(proposal.sample(latent_noise), proposal.hidden)
        return elbo(
            output,
            self.decoders.log_scale(),
            mask_logits,
            x if target is None else target,
            mask,
            proposal.mean,
            proposal.log_variance,
            self.layout,
            attribute_weight=mask if attribute_weight is None else attribute_weight,
            target_variance=target_variance,
        )

    @torch.no_grad()
    def folded(self, dtype: torch.dtype | None = None) -> FoldedDecoders:
        """Both decoders in evaluation mode as the sampling ops take them."""
        parameter = self.decoders.raw_scale
        return self.decoders.fold().to(dtype or parameter.dtype, parameter.device)

    @torch.no_grad()
    def folded_encoders(self, dtype: torch.dtype | None = None) -> FoldedEncoders:
        """Proposal networks in evaluation mode as :func:`vsae_fast.ops.propose.propose` takes them."""
        own = []
        for encoder in self.attributive.encoders:
            assert isinstance(encoder, GroupedEncoder)
            own.append(encoder.fold())
        body, head = self.collective.fold()
        context, slope = self.decoders.folded_context(), self.config.negative_slope
        parameter = self.decoders.raw_scale
        folded = FoldedEncoders(tuple(own), body, head, context, self.layout, slope)
        return folded.to(dtype or parameter.dtype, parameter.device)

    @torch.no_grad()
    def impute(
        self,
        x: torch.Tensor,
        mask: torch.Tensor,
        latent_noise: torch.Tensor,
        *,
        fill_noise: torch.Tensor | None = None,
        visible_weight: float = 1.0,
        tolerance: float = 0.0,
        n_draws: int = 0,
        row_id: torch.Tensor | None = None,
        seed: int = 0,
        backend: str = "auto",
        n_threads: int | None = None,
    ) -> Imputation:
        """Impute by importance sampling with shared noise (K, L); needs evaluation mode.

        Parameters are those of :func:`vsae_fast.ops.importance_impute.importance_impute`; ``fill_noise`` is that of
        :meth:`encode`.
        """
        self._require_evaluation("impute")
        proposal = self.encode(x, mask, fill_noise)
        return importance_impute(
            proposal.mean,
            proposal.scale,
            x,
            mask,
            latent_noise,
            self.folded(),
            context=self.decoders.fold_context(proposal.hidden),
            visible_weight=visible_weight,
            tolerance=tolerance,
            n_draws=n_draws,
            row_id=row_id,
            seed=seed,
            backend=backend,
            n_threads=n_threads,
        )

    def log_evidence(
        self,
        x: torch.Tensor,
        mask: torch.Tensor,
        n_samples: int = 1000,
        *,
        generator: torch.Generator | None = None,
        backend: str = "auto",
    ) -> torch.Tensor:
        """Importance-sampled log p(x_o, m) of each row in nats, float64, shape (N,).

        Parameters
        ----------
        x : torch.Tensor, shape (N, D)
        mask : torch.Tensor, shape (N, M)
            1 = observed.
        n_samples : int
            ``K``.
        generator : torch.Generator, optional
        backend : {"auto", "cpu", "reference"}
        """
        noise = torch.randn(n_samples, self.n_latent, generator=generator, dtype=x.dtype, device=x.device)
        fill = torch.randn(self.layout.n_columns, generator=generator, dtype=x.dtype, device=x.device)
        return self.impute(x, mask, noise, fill_noise=fill, backend=backend).log_evidence

    @torch.no_grad()
    def generate(
        self, n_samples: int, *, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw rows from the prior: z, then the mask, then the data.

        Parameters
        ----------
        n_samples : int
        generator : torch.Generator, optional

        Returns
        -------
        x : torch.Tensor, shape (n_samples, D)
            Complete rows (Gaussian values and one-hot levels).
        mask : torch.Tensor, shape (n_samples, M)
            1 = observed, drawn from the mask decoder.
        """
        self._require_evaluation("generate")
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1, got {n_samples}")
        parameter = self.decoders.raw_scale
        if generator is None:
            generator = torch.Generator(parameter.device)
            generator.seed()
        dtype, device = parameter.dtype, parameter.device
        z = torch.randn(n_samples, self.n_latent, generator=generator, dtype=dtype, device=device)
        # With a skip path the context of a row of which nothing is known stands in for the missing encoder pass.
        empty = torch.zeros(1, self.layout.n_columns, dtype=dtype, device=device)
        hidden = self.encode(empty, torch.zeros(1, self.layout.n_attributes, dtype=dtype, device=device)).hidden
        mask_logits, output = self.decode(z, hidden)
        x = sample_data(output, self.folded(), TorchDraws(generator))
        uniform = torch.rand(mask_logits.shape, generator=generator, dtype=dtype, device=device)
        return x, (uniform < mask_logits.sigmoid()).to(parameter.dtype)

    def _require_evaluation(self, what: str) -> None:
        if self.training:
            raise RuntimeError(f"VSAE.{what} needs evaluation mode; call model.eval() first")
