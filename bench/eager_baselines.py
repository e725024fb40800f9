"""A VAE and an MVAE as a user would write them in PyTorch, for attributes of one number each.

One module per network, Adam, a training step per batch; nothing is fused and nothing is slowed down.
"""

from __future__ import annotations

import torch
from torch import nn

from bench.eager_training import mlp
from vsae_fast.models.config import NetworkConfig


class EagerVAE(nn.Module):
    """Twin of :class:`vsae_fast.models.vae.VAE`: one encoder for the whole row, noise in its holes."""

    def __init__(self, n_attributes: int, config: NetworkConfig) -> None:
        super().__init__()
        self.n_attributes, self.n_latent = n_attributes, n_attributes * config.latent_per_attribute
        self.encoder = self.make_encoder(config)
        self.decoder = mlp(
            (self.n_latent, *config.data_hidden, n_attributes),
            norm="first",
            slope=config.negative_slope,
            tail=not config.linear_tail,
        )
        self.log_scale = nn.Parameter(torch.zeros(n_attributes))

    def make_encoder(self, config: NetworkConfig) -> nn.Module:
        """Network from a row to mean and log-variance of all latents."""
        sizes = (self.n_attributes, *config.collective_hidden, 2 * self.n_latent)
        return mlp(sizes, norm="all", slope=config.negative_slope)

    def bound(
        self, mean: torch.Tensor, log_variance: torch.Tensor, x: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Single-sample bound on log p(x_o) of each row, (N,)."""
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        log_likelihood = torch.distributions.Normal(self.decoder(z), self.log_scale.exp()).log_prob(x)
        divergence = 0.5 * (mean**2 + log_variance.exp() - log_variance - 1)
        return (mask * log_likelihood).sum(1) - divergence.sum(1)

    def loss(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Mean negative bound of a batch."""
        mean, log_variance = self.encoder(torch.where(mask > 0, x, torch.randn_like(x))).chunk(2, -1)
        return -self.bound(mean, log_variance.clamp(-8, 8), x, mask).mean()


class EagerMVAE(EagerVAE):
    """Twin of :class:`vsae_fast.models.mvae.MVAE`: an expert for each attribute, and the bounds of their subsets."""

    def make_encoder(self, config: NetworkConfig) -> nn.Module:
        """An expert for each attribute."""
        sizes = (1, *config.numerical_hidden, 2 * self.n_latent)
        return nn.ModuleList(mlp(sizes, norm="all", slope=config.negative_slope) for _ in range(self.n_attributes))

    def loss(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Negative bounds of the observed attributes together, of each one alone, and of a random subset."""
        assert isinstance(self.encoder, nn.ModuleList)
        columns = (x * mask).split(1, 1)
        proposals = torch.stack([net(column) for net, column in zip(self.encoder, columns, strict=True)], 1)
        means, log_variances = proposals.chunk(2, -1)
        precisions = (-log_variances.clamp(-8, 8)).exp()
        alone = torch.eye(self.n_attributes, device=x.device)
        total = x.new_zeros(())
        for part in (mask, *(mask * one for one in alone), mask * (torch.rand_like(mask) < 0.5)):
            precision = part.unsqueeze(-1) * precisions
            all_of_them = 1 + precision.sum(1)
            total = total - self.bound((precision * means).sum(1) / all_of_them, -all_of_them.log(), x, part).mean()
        return total


def step(model: EagerVAE, optimizer: torch.optim.Optimizer, x: torch.Tensor, mask: torch.Tensor) -> None:
    """One update."""
    loss = model.loss(x, mask)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
