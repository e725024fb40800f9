"""Variational autoencoders with one encoder for the whole row: VAE, CVAE with mask, MIWAE."""

from __future__ import annotations

from dataclasses import replace

import torch

from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.decoders import MaskFreeDecoders
from vsae_fast.models.encoders import CollectiveEncoder
from vsae_fast.models.latent_model import LatentModel, Proposal, Rows
from vsae_fast.ops.layout import AttributeLayout


class VAE(LatentModel):
    """Variational autoencoder of the whole row, without the mask; ``mask`` is 1 where an attribute is observed.

    Holes are filled, and the encoder cannot tell a fill from a value (Kingma and Welling 2014; the paper's VAE).

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
        """Propose latents; see :meth:`LatentModel.encode`."""
        return Proposal(*self.encoder(self.layout.join(x), mask, noise))


class CVAE(LatentModel):
    """Variational autoencoder whose encoder and decoder both see the mask; 1 where an attribute is observed.

    Sohn, Lee and Yan (2015) with the mask as the condition: the paper's "CVAE w/ mask".

    Parameters
    ----------
    layout : AttributeLayout
    config : NetworkConfig, optional
    """

    def __init__(self, layout: AttributeLayout, config: NetworkConfig | None = None) -> None:
        super().__init__(layout, config)
        self.encoder = CollectiveEncoder(layout, self.config)
        self.decoders = MaskFreeDecoders(layout, self.config, n_context=layout.n_attributes)

    def encode(self, x: Rows, mask: torch.Tensor, noise: torch.Tensor | None = None) -> Proposal:
        """Propose latents; the mask is the decoder's context. See :meth:`LatentModel.encode`."""
        mean, log_variance, _ = self.encoder(self.layout.join(x), mask, noise)
        return Proposal(mean, log_variance, mask)


class MIWAE(VAE):
    """VAE with zeros in the holes; train it with :class:`~vsae_fast.baseline_objectives.ImportanceWeighted`.

    Mattei and Frellsen (2019), with the likelihoods of the other models in place of Student's t.

    Parameters
    ----------
    layout : AttributeLayout
    config : NetworkConfig, optional
        Its ``fill`` is not read.
    """

    def __init__(self, layout: AttributeLayout, config: NetworkConfig | None = None) -> None:
        super().__init__(layout, replace(config or NetworkConfig(), fill="zero"))
