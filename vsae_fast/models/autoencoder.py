"""The plain autoencoder: no distribution over its code, no mask (the paper's AE)."""

from __future__ import annotations

from typing import Any

import torch

from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.decoders import MaskFreeDecoders
from vsae_fast.models.encoders import CollectiveEncoder
from vsae_fast.models.latent_model import LatentModel, Proposal, Rows
from vsae_fast.ops.elbo import data_log_likelihood
from vsae_fast.ops.importance_impute import Imputation, expected_value
from vsae_fast.ops.layout import AttributeLayout


class Autoencoder(LatentModel):
    """Rows with filled holes to a code, and the code back to rows; ``mask`` is 1 where an attribute is observed.

    The encoder cannot tell a fill from a value. Observed attributes alone are scored, by the same likelihoods as in the
    other models.

    Parameters
    ----------
    layout : AttributeLayout
    config : NetworkConfig, optional
    """

    def __init__(self, layout: AttributeLayout, config: NetworkConfig | None = None) -> None:
        super().__init__(layout, config)
        self.encoder = CollectiveEncoder(layout, self.config, sees_mask=False)
        self.decoders = MaskFreeDecoders(layout, self.config)

    def encode(self, x: Rows, mask: torch.Tensor, noise: torch.Tensor | None = None) -> Proposal:
        """Code of each row: a proposal without width (log-variance minus infinity)."""
        mean, _, hidden = self.encoder(self.layout.join(x), mask, noise)
        return Proposal(mean, torch.full_like(mean, -torch.inf), hidden)

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
        """Log-likelihood of the observed attributes given the code, in nats: no divergence; ``latent_noise`` is unused.

        Other parameters are those of :meth:`LatentModel.elbo`.
        """
        del latent_noise
        x = self.layout.join(x)
        _, output = self.decode(self.encode(x, mask, fill_noise).mean)
        goal = x if target is None else target
        likelihood = data_log_likelihood(output, self.decoders.log_scale(), goal, self.layout, target_variance)
        weight = mask if attribute_weight is None else attribute_weight
        return torch.where(weight != 0, weight * likelihood, 0.0).sum(-1)

    @torch.no_grad()
    def impute(
        self,
        x: Rows,
        mask: torch.Tensor,
        latent_noise: torch.Tensor,
        *,
        fill_noise: torch.Tensor | None = None,
        **options: Any,
    ) -> Imputation:
        """Decode the code once; there is nothing to sample, so that noise and options of other models are unused."""
        del latent_noise, options
        self._require_evaluation("impute")
        x = self.layout.join(x)
        _, output = self.decode(self.encode(x, mask, fill_noise).mean)
        observed = self.layout.expand(mask) > 0
        imputed = torch.where(observed, x, expected_value(output, self.layout))
        rows = x.new_ones(len(x), dtype=torch.float64)
        return Imputation(imputed, rows * torch.nan, rows, rows.int(), imputed.new_empty(len(x), 0, x.shape[1]))
