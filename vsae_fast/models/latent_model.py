"""What the VSAE and the models it is compared with have in common: proposals, decoding, bounds, imputation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.decoders import Decoders, MaskFreeDecoders
from vsae_fast.ops.elbo import elbo
from vsae_fast.ops.folded_decoders import FoldedDecoders
from vsae_fast.ops.importance_impute import Imputation, importance_impute
from vsae_fast.ops.layout import AttributeLayout

Rows = torch.Tensor | Mapping[Any, torch.Tensor]  # joined, or by attribute; see AttributeLayout.join


class Proposal(NamedTuple):
    """``q(z | x_o, m)``, and the row's context for the data decoder.

    Attributes
    ----------
    mean, log_variance : torch.Tensor, shape (N, L)
    hidden : torch.Tensor, shape (N, H)
        The collective network's last hidden vector; the mask in a CVAE.
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


class LatentModel(nn.Module, ABC):
    """Latent-variable model of partially observed rows; ``mask`` is 1 where an attribute is observed.

    Subclasses have ``decoders`` and :meth:`encode`.

    Parameters
    ----------
    layout : AttributeLayout
        Kinds and widths of the ``M`` attributes.
    config : NetworkConfig, optional
        The paper's architecture where it is left out.
    """

    decoders: Decoders | MaskFreeDecoders

    def __init__(self, layout: AttributeLayout, config: NetworkConfig | None = None) -> None:
        super().__init__()
        self.layout = layout
        self.config = config or NetworkConfig()

    @property
    def n_latent(self) -> int:
        """``L``, over all attributes."""
        return self.layout.n_attributes * self.config.latent_per_attribute

    @abstractmethod
    def encode(self, x: Rows, mask: torch.Tensor, noise: torch.Tensor | None = None) -> Proposal:
        """Propose latents.

        Parameters
        ----------
        x : torch.Tensor, shape (N, D), or mapping of attribute to torch.Tensor
            Encoded rows, joined or one tensor per attribute (:meth:`AttributeLayout.join`).
        mask : torch.Tensor, shape (N, M)
            1 = observed.
        noise : torch.Tensor, shape (N, D) or (D,), optional
            Standard normal, for the holes of the collective input; zeros where it is left out or ``config.fill`` says
            so.

        Returns
        -------
        Proposal
        """

    def decode(self, z: torch.Tensor, hidden: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Mask logits (..., M) and outputs (..., D) of latents (..., L); ``hidden`` (N, H) feeds the skip path."""
        mask_logits, output = self.decoders(z, hidden)
        return mask_logits, output

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
        x = self.layout.join(x)
        proposal = self.encode(x, mask, fill_noise)
        return self.elbo_of(
            proposal,
            x,
            mask,
            latent_noise=latent_noise,
            target=target,
            target_variance=target_variance,
            attribute_weight=attribute_weight,
        )

    def elbo_of(
        self,
        proposal: Proposal,
        x: torch.Tensor,
        mask: torch.Tensor,
        *,
        latent_noise: torch.Tensor,
        target: torch.Tensor | None = None,
        target_variance: torch.Tensor | None = None,
        attribute_weight: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Bound of each row, shape (N,), with a proposal that stands already; the rest is as in :meth:`elbo`."""
        mask_logits, output = self.decode(proposal.sample(latent_noise), proposal.hidden)
        bound = elbo(
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
        return bound + self.decoders.mask_constant if self.decoders.mask_constant else bound

    @torch.no_grad()
    def folded(self, dtype: torch.dtype | None = None) -> FoldedDecoders:
        """Both decoders in evaluation mode as the sampling ops take them."""
        parameter = self.decoders.raw_scale
        return self.decoders.fold().to(dtype or parameter.dtype, parameter.device)

    @torch.no_grad()
    def impute(
        self,
        x: Rows,
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
        x = self.layout.join(x)
        proposal = self.encode(x, mask, fill_noise)
        result = importance_impute(
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
        return result._replace(log_evidence=result.log_evidence + self.decoders.mask_constant)

    def log_evidence(
        self,
        x: Rows,
        mask: torch.Tensor,
        n_samples: int = 1000,
        *,
        generator: torch.Generator | None = None,
        backend: str = "auto",
    ) -> torch.Tensor:
        """Importance-sampled log p(x_o, m) of each row in nats, float64, shape (N,); log p(x_o) without a mask decoder.

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
        x = self.layout.join(x)
        noise = torch.randn(n_samples, self.n_latent, generator=generator, dtype=x.dtype, device=x.device)
        fill = torch.randn(self.layout.n_columns, generator=generator, dtype=x.dtype, device=x.device)
        return self.impute(x, mask, noise, fill_noise=fill, backend=backend).log_evidence

    def _require_evaluation(self, what: str) -> None:
        if self.training:
            raise RuntimeError(f"{type(self).__name__}.{what} needs evaluation mode; call model.eval() first")
