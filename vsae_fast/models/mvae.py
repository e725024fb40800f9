"""The multi-modal VAE: a product of Gaussian experts, one for each observed attribute (Wu and Goodman 2018)."""

from __future__ import annotations

from dataclasses import replace

import torch

from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.decoders import MaskFreeDecoders
from vsae_fast.models.encoders import AttributiveEncoders
from vsae_fast.models.latent_model import LatentModel, Proposal, Rows
from vsae_fast.ops.layout import AttributeLayout

Experts = tuple[torch.Tensor, torch.Tensor]


def product_of_experts(
    mean: torch.Tensor, log_variance: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Product of a standard normal prior and the Gaussian experts of weight 1.

    Parameters
    ----------
    mean, log_variance : torch.Tensor, shape (N, M, L)
        Of the experts.
    weight : torch.Tensor, shape (N, M)
        1 for the experts that count, 0 for the others.

    Returns
    -------
    mean, log_variance : torch.Tensor, shape (N, L)
        Precisions add up, and means are weighted by them.

    Examples
    --------
    >>> mean, log_variance = product_of_experts(torch.tensor([[[2.0]]]), torch.zeros(1, 1, 1), torch.ones(1, 1))
    >>> mean.item(), round(log_variance.exp().item(), 6)
    (1.0, 0.5)
    """
    precision = weight.unsqueeze(-1) * torch.exp(-log_variance)
    total = 1.0 + precision.sum(1)
    return (precision * mean).sum(1) / total, -torch.log(total)


class MVAE(LatentModel):
    """Product-of-experts VAE; ``mask`` is 1 where an attribute is observed.

    Each attribute's encoder proposes all ``L`` latents. Train it with
    :class:`~vsae_fast.baseline_objectives.Subsampled`.

    Parameters
    ----------
    layout : AttributeLayout
    config : NetworkConfig, optional
        Its ``fill`` and ``collective_hidden`` are not read: there is no hole to fill and no collective network.
    """

    def __init__(self, layout: AttributeLayout, config: NetworkConfig | None = None) -> None:
        super().__init__(layout, replace(config or NetworkConfig(), fill="zero"))
        self.experts = AttributiveEncoders(layout, replace(self.config, latent_per_attribute=self.n_latent))
        self.decoders = MaskFreeDecoders(layout, self.config)

    def encode(self, x: Rows, mask: torch.Tensor, noise: torch.Tensor | None = None) -> Proposal:
        """Propose latents from the observed attributes; ``noise`` is unused. See :meth:`LatentModel.encode`."""
        del noise
        return self.combine(self.propose_each(x, mask), mask)

    def propose_each(self, x: Rows, mask: torch.Tensor) -> Experts:
        """What each observed attribute's expert proposes for all latents, mean and log-variance, each (N, M, L)."""
        mean, log_variance = self.experts(self.layout.join(x), mask)
        return mean, log_variance

    def combine(self, experts: Experts, mask: torch.Tensor) -> Proposal:
        """Product of the experts whose attribute the mask (N, M) marks; some of the observed ones, or all."""
        return Proposal(*product_of_experts(*experts, mask), mask)
