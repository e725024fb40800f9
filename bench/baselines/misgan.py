"""MisGAN (Li, Jiang, Marlin 2019): a generator of data, one of masks, and an imputer, each with a critic."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
import torch
from torch import nn

from bench.accuracy.encoding import Encoding
from bench.baselines.matrix import as_tensors, random_rows

Critic = Callable[[torch.Tensor], torch.Tensor]


def masked(x: torch.Tensor, mask: torch.Tensor, fill: float = 0.0) -> torch.Tensor:
    """What remains of rows behind a mask: the paper's ``f_tau(x, m) = x m + tau (1 - m)``."""
    return x * mask + fill * (1 - mask)


def critic_loss(critic: Critic, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """What a Wasserstein critic descends: its mean on generated rows less that on real ones."""
    return critic(fake).mean() - critic(real).mean()


def gradient_penalty(critic: Critic, real: torch.Tensor, fake: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Mean squared deviation of the critic's slope from 1 between real and generated rows (Gulrajani et al. 2017).

    Parameters
    ----------
    share : torch.Tensor, shape (N, 1)
        Where between the two each slope is taken.
    """
    between = (share * real + (1 - share) * fake).detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return ((slope.norm(dim=1) - 1) ** 2).mean()


def generator_loss(
    critics: Sequence[Critic],
    x: torch.Tensor,
    mask: torch.Tensor,
    completed: torch.Tensor,
    *,
    alpha: float,
    beta: float,
) -> torch.Tensor:
    """What the data generator, the mask generator and the imputer descend, in one sum.

    Each term's gradient reaches the network that it is meant for alone: the data generator answers to its critic and,
    with weight ``beta``, for the imputer's critic's reference; the mask generator to its own critic and, with weight
    ``alpha``, to the data's; the imputer to its own.

    Parameters
    ----------
    critics : sequence of callable
        Of masked rows, of masks, of completed rows.
    x, mask : torch.Tensor, shape (N, D)
        Generated rows and masks.
    completed : torch.Tensor, shape (N, D)
        Rows that the imputer completed.
    """
    of_rows, of_masks, of_completed = critics
    data = -of_rows(masked(x, mask.detach())).mean() + beta * of_completed(x).mean()
    masks = -of_masks(mask).mean() - alpha * of_rows(masked(x.detach(), mask)).mean()
    return data + masks - of_completed(completed).mean()


def network(n_in: int, hidden: int, n_out: int, *, bounded: bool = False) -> nn.Sequential:
    """Three layers; ``bounded`` keeps the output between 0 and 1."""
    layers = [nn.Linear(n_in, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, n_out)]
    return nn.Sequential(*layers, *([nn.Sigmoid()] if bounded else []))


class MisGan:
    """Six small networks trained in turn, with the original code's weights.

    Critics take five steps for one of the generators; gradient penalty 10, alpha 0.1 and beta 0.1 (see
    :func:`generator_loss`). Numbers are scaled to [0, 1]. The learning rate is ten times the original's: at that, 2,000
    steps teach a table nothing.

    Parameters
    ----------
    n_steps : int
        Of the generators.
    seed : int
    """

    n_latent, n_hidden, batch_size, n_critic, learning_rate = 32, 128, 128, 5, 1e-3
    penalty, alpha, beta = 10.0, 0.1, 0.1
    mask_temperature = 0.66  # of the mask generator's sigmoid

    def __init__(self, n_steps: int = 2000, seed: int = 0) -> None:
        self.n_steps, self.seed = n_steps, seed

    def fit_transform(self, table: pd.DataFrame) -> pd.DataFrame:
        """Train on an incomplete table and complete it."""
        encoding = Encoding(table, "unit")
        x, m = as_tensors(encoding, table)
        width, random = x.shape[1], torch.Generator().manual_seed(self.seed)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            data, mask_logits = (network(self.n_latent, self.n_hidden, width) for _ in range(2))
            imputer = network(2 * width, self.n_hidden, width, bounded=True)
            critics = [network(width, self.n_hidden, 1) for _ in range(3)]  # of data, of masks, of imputations
        generators = [data, mask_logits, imputer]
        generate = torch.optim.Adam(
            [p for net in generators for p in net.parameters()], self.learning_rate, betas=(0.5, 0.9)
        )
        criticise = torch.optim.Adam(
            [p for net in critics for p in net.parameters()], self.learning_rate, betas=(0.5, 0.9)
        )

        def draw(n: int) -> tuple[torch.Tensor, torch.Tensor]:
            z, e = torch.randn(2, n, self.n_latent, generator=random)
            return torch.sigmoid(data(z)), torch.sigmoid(mask_logits(e) / self.mask_temperature)

        def complete(known: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            noisy = masked(known, mask) + (1 - mask) * torch.rand(known.shape, generator=random)
            return masked(known, mask) + (1 - mask) * imputer(torch.cat([noisy, mask], 1))

        def pairs() -> list[tuple[Critic, torch.Tensor, torch.Tensor]]:
            """Each critic with its real and its generated rows."""
            rows = random_rows(len(x), self.batch_size, random)
            fake_x, fake_m = draw(len(rows))
            return [
                (critics[0], masked(x[rows], m[rows]), masked(fake_x, fake_m)),
                (critics[1], m[rows], fake_m),
                (critics[2], fake_x, complete(x[rows], m[rows])),
            ]

        for _ in range(self.n_steps):
            for _ in range(self.n_critic):
                with torch.no_grad():
                    batch = pairs()
                total = x.new_zeros(())
                for critic, real, fake in batch:
                    share = torch.rand(len(real), 1, generator=random)
                    total = total + critic_loss(critic, real, fake)
                    total = total + self.penalty * gradient_penalty(critic, real, fake, share)
                criticise.zero_grad()
                total.backward()
                criticise.step()
            rows = random_rows(len(x), self.batch_size, random)
            fake_x, fake_m = draw(len(rows))
            loss = generator_loss(critics, fake_x, fake_m, complete(x[rows], m[rows]), alpha=self.alpha, beta=self.beta)
            generate.zero_grad()
            loss.backward()
            generate.step()
        with torch.no_grad():
            return encoding.fill(table, complete(x, m).double().numpy())
