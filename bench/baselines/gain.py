"""GAIN (Yoon, Jordon, van der Schaar 2018)."""

from __future__ import annotations

import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from bench.accuracy.encoding import Encoding
from bench.baselines.matrix import as_tensors, random_rows


def discriminator_loss(odds: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the discriminator's probabilities that a cell was observed."""
    return functional.binary_cross_entropy(odds, mask)


def generator_loss(
    odds: torch.Tensor, guess: torch.Tensor, known: torch.Tensor, mask: torch.Tensor, alpha: float
) -> torch.Tensor:
    """How well imputed cells pass for observed ones, and ``alpha`` times the error of observed cells."""
    adversarial = -((1 - mask) * torch.log(odds + 1e-8)).mean()
    error = (mask * (known - guess) ** 2).sum() / mask.sum()
    return adversarial + alpha * error


class Gain:
    """Generator and discriminator as in the original code.

    Two hidden layers as wide as the table, hint 0.9, alpha 100, batches of 128, numbers scaled to [0, 1].

    Parameters
    ----------
    n_steps : int
        10,000 in the original code; the arena takes 2,000.
    seed : int
    """

    hint, alpha, batch_size = 0.9, 100.0, 128

    def __init__(self, n_steps: int = 2000, seed: int = 0) -> None:
        self.n_steps, self.seed = n_steps, seed

    def fit_transform(self, table: pd.DataFrame) -> pd.DataFrame:
        """Train on an incomplete table and complete it."""
        self.encoding = Encoding(table, "unit")
        x, m = as_tensors(self.encoding, table)
        width = x.shape[1]
        random = torch.Generator().manual_seed(self.seed)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self.generator, discriminator = (
                nn.Sequential(
                    nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                    nn.Linear(width, width), nn.Sigmoid(),
                )
                for _ in range(2)
            )  # fmt: skip
        generate = torch.optim.Adam(self.generator.parameters())
        discriminate = torch.optim.Adam(discriminator.parameters())
        for _ in range(self.n_steps):
            rows = random_rows(len(x), self.batch_size, random)
            known, mask = x[rows], m[rows]
            noisy = self._noisy(known, mask, random)
            hint = mask * (torch.rand(mask.shape, generator=random) < self.hint) + 0.0
            guess = self.generator(torch.cat([noisy, mask], 1))
            filled = torch.where(mask > 0, known, guess)
            discriminate.zero_grad()
            discriminator_loss(discriminator(torch.cat([filled.detach(), hint], 1)), mask).backward()
            discriminate.step()
            odds = discriminator(torch.cat([filled, hint], 1))
            generate.zero_grad()
            generator_loss(odds, guess, known, mask, self.alpha).backward()
            generate.step()
        return self.transform(table)

    @torch.no_grad()
    def transform(self, table: pd.DataFrame) -> pd.DataFrame:
        """Complete rows."""
        x, m = as_tensors(self.encoding, table)
        guess = self.generator(torch.cat([self._noisy(x, m, torch.Generator().manual_seed(1)), m], 1))
        return self.encoding.fill(table, guess.double().numpy())

    @staticmethod
    def _noisy(x: torch.Tensor, mask: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        return mask * x + (1 - mask) * 0.01 * torch.rand(x.shape, generator=random)
