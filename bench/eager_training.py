"""A VSAE as a user would write it in PyTorch from the paper, for numerical attributes of one width.

One module per attribute, Adam, a training step per batch; nothing is fused and nothing is slowed down.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from vsae_fast.models.config import NetworkConfig


def mlp(sizes: tuple[int, ...], *, norm: str, slope: float, tail: bool = True) -> nn.Sequential:
    """Linears; ``norm`` "all" or "first" says which get BatchNorm; without ``tail`` only the first is activated."""
    modules: list[nn.Module] = []
    for i in range(len(sizes) - 2):
        modules.append(nn.Linear(sizes[i], sizes[i + 1]))
        if norm == "all" or i == 0:
            modules.append(nn.BatchNorm1d(sizes[i + 1]))
        if tail or i == 0:
            modules.append(nn.LeakyReLU(slope))
    modules.append(nn.Linear(sizes[-2], sizes[-1]))
    return nn.Sequential(*modules)


class EagerVSAE(nn.Module):
    """Twin of :class:`vsae_fast.VSAE` for ``n_attributes`` numbers, or blocks of ``width`` numbers."""

    def __init__(self, n_attributes: int, config: NetworkConfig, width: int = 1) -> None:
        super().__init__()
        self.n_attributes, self.width, self.config = n_attributes, width, config
        slope, latent = config.negative_slope, config.latent_per_attribute
        self.attributive = nn.ModuleList(
            mlp((width, *config.numerical_hidden, 2 * latent), norm="all", slope=slope) for _ in range(n_attributes)
        )
        hidden = config.collective_hidden
        self.collective = mlp(((width + 1) * n_attributes, *hidden), norm="all", slope=slope)[:-1]
        self.collective.append(nn.Linear(hidden[-2] if len(hidden) > 1 else (width + 1) * n_attributes, hidden[-1]))
        self.collective.extend([nn.BatchNorm1d(hidden[-1]), nn.LeakyReLU(slope)])
        self.head = nn.Linear(hidden[-1], 2 * n_attributes * latent)
        n_latent = n_attributes * latent
        self.mask_decoder = mlp((n_latent, *config.mask_hidden, n_attributes), norm="first", slope=slope)
        self.context = nn.Linear(hidden[-1], config.data_hidden[0], bias=False) if config.skip else None
        self.data_first = nn.Linear(n_latent + n_attributes, config.data_hidden[0])
        self.data_norm = nn.BatchNorm1d(config.data_hidden[0])
        rest: list[nn.Module] = [nn.LeakyReLU(slope)]
        for a, b in zip(config.data_hidden[:-1], config.data_hidden[1:], strict=True):
            rest += [nn.Linear(a, b)] if config.linear_tail else [nn.Linear(a, b), nn.LeakyReLU(slope)]
        self.data_rest = nn.Sequential(*rest, nn.Linear(config.data_hidden[-1], n_attributes * width))
        self.log_scale = nn.Parameter(torch.zeros(n_attributes))

    def expand(self, attributes: torch.Tensor) -> torch.Tensor:
        """From a value for each attribute to one for each column."""
        return attributes if self.width == 1 else attributes.repeat_interleave(self.width, -1)

    def encode(
        self, x: torch.Tensor, mask: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mean and log-variance (N, M, latent) and the collective hidden vector."""
        own = torch.stack([net(part) for part, net in zip(x.split(self.width, 1), self.attributive, strict=True)], 1)
        filled = torch.where(self.expand(mask) > 0, x, noise)
        hidden = self.collective(torch.cat([filled, mask], 1))
        shared = self.head(hidden).view(len(x), 2, self.n_attributes, -1).transpose(1, 2).flatten(2)
        mean, log_variance = torch.where(mask.unsqueeze(-1) > 0, own, shared).chunk(2, -1)
        return mean, log_variance.clamp(-8, 8), hidden

    def decode(self, z: torch.Tensor, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mask logits and means for z (..., N, L)."""
        flat = z.flatten(0, -2)
        logits = self.mask_decoder(flat)
        first = self.data_first(torch.cat([flat, logits.sigmoid()], 1)).view(*z.shape[:-1], -1)
        if self.context is not None:
            first = first + self.context(hidden)
        output = self.data_rest(self.data_norm(first.flatten(0, -2)))
        return logits.view(*z.shape[:-1], -1), output.view(*z.shape[:-1], -1)

    def log_likelihood(self, output: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Gaussian log density of each cell."""
        return torch.distributions.Normal(output, self.expand(self.log_scale.exp())).log_prob(x)


class EagerLevelsVSAE(EagerVSAE):
    """Twin for ``n_attributes`` categories of ``width`` levels each, one-hot."""

    def log_likelihood(self, output: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Log probability of each observed level, 0 in the columns of others."""
        by_attribute = output.unflatten(-1, (self.n_attributes, self.width))
        return functional.log_softmax(by_attribute, -1).flatten(-2) * x


def step_phase_1(model: EagerVSAE, optimizer: torch.optim.Optimizer, x: torch.Tensor, mask: torch.Tensor) -> None:
    """One update on the bound on (x_o, m)."""
    mean, log_variance, hidden = model.encode(x, mask, torch.randn_like(x))
    mean, log_variance = mean.flatten(1), log_variance.flatten(1)
    z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
    logits, output = model.decode(z, hidden)
    bound = (model.expand(mask) * model.log_likelihood(output, x)).sum(1)
    bound = bound - functional.binary_cross_entropy_with_logits(logits, mask, reduction="none").sum(1)
    bound = bound - 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum(1)
    optimizer.zero_grad()
    (-bound.mean()).backward()
    optimizer.step()


def step_phase_2(
    model: EagerVSAE, optimizer: torch.optim.Optimizer, x: torch.Tensor, mask: torch.Tensor, n_samples: int = 100
) -> None:
    """One update on the complete-data bound with sampled x_u; the average over samples in its closed form."""
    model.eval()
    with torch.no_grad():
        mean, log_variance, hidden = model.encode(x, mask, torch.randn_like(x))
        mean, scale = mean.flatten(1), (0.5 * log_variance).exp().flatten(1)
        z = mean + scale * torch.randn(n_samples, *mean.shape, device=mean.device)
        _, output = model.decode(z, hidden)
        drawn = output + model.expand(model.log_scale.exp()) * torch.randn_like(output)
        observed = model.expand(mask) > 0
        target = torch.where(observed, x, drawn.mean(0))
        variance = torch.where(observed, 0.0, drawn.var(0, unbiased=False))
    model.train()
    mean, log_variance, hidden = model.encode(x, mask, torch.randn_like(x))
    mean, log_variance = mean.flatten(1), log_variance.flatten(1)
    z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
    logits, output = model.decode(z, hidden)
    bound = (model.log_likelihood(output, target) - 0.5 * variance / model.expand(model.log_scale.exp()) ** 2).sum(1)
    bound = bound - functional.binary_cross_entropy_with_logits(logits, mask, reduction="none").sum(1)
    bound = bound - 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum(1)
    optimizer.zero_grad()
    (-bound.mean()).backward()
    optimizer.step()


def step_importance_weighted(
    model: EagerVSAE, optimizer: torch.optim.Optimizer, x: torch.Tensor, mask: torch.Tensor, n_samples: int = 10
) -> None:
    """One update of hide-and-score with the importance-weighted bound."""
    share = 0.1 + 0.7 * torch.rand(len(x), 1, device=x.device)
    visible = mask * (torch.rand_like(mask) >= share).float()
    mean, log_variance, hidden = model.encode(x, visible, torch.zeros_like(x))
    mean, scale = mean.flatten(1), (0.5 * log_variance).exp().flatten(1)
    noise = torch.randn(n_samples, *mean.shape, device=mean.device)
    z = mean + scale * noise
    logits, output = model.decode(z, hidden)
    weight = mask - 0.8 * visible
    log_weight = (model.expand(weight) * model.log_likelihood(output, x)).sum(-1)
    log_weight = log_weight - functional.binary_cross_entropy_with_logits(
        logits, mask.expand_as(logits), reduction="none"
    ).sum(-1)
    log_weight = log_weight + (0.5 * (noise**2 - z**2) + scale.log()).sum(-1)
    bound = torch.logsumexp(log_weight, 0) - torch.log(torch.tensor(float(n_samples)))
    optimizer.zero_grad()
    (-bound.mean()).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
