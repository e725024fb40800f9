"""MIWAE (Mattei and Frellsen 2019) with Student's t, as its authors set it up for tables."""

from __future__ import annotations

import math

import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from bench.accuracy.encoding import Encoding
from bench.baselines.matrix import as_tensors, random_rows

N_STEPS = 2000


class Miwae:
    """Importance-weighted autoencoder with zeros in the holes, imputing by self-normalised importance sampling.

    Width 128, ten latent dimensions, 20 samples in training and 1000 at imputation, Student's t for numbers and softmax
    for levels, Adam at 1e-3, batches of 64.
    """

    n_hidden, n_latent, n_training_samples, n_samples, batch_size = 128, 10, 20, 1000, 64

    def fit_transform(self, table: pd.DataFrame) -> pd.DataFrame:
        """Train on an incomplete table and complete it."""
        self.encoding = Encoding(table)
        number = [name in self.encoding.numbers for name in self.encoding.names]
        widths = [where.stop - where.start for where in self.encoding.columns]
        self.number = torch.tensor(number).repeat_interleave(torch.tensor(widths))
        self.attribute = torch.arange(len(widths)).repeat_interleave(torch.tensor(widths))
        x, m = as_tensors(self.encoding, table)
        width, hidden = x.shape[1], self.n_hidden

        def body(n_in: int, n_out: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Linear(n_in, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, n_out)
            )

        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.encoder, self.decoder = body(width, 2 * self.n_latent), body(self.n_latent, 3 * width)
        optimizer = torch.optim.Adam([*self.encoder.parameters(), *self.decoder.parameters()], 1e-3)
        random = torch.Generator().manual_seed(0)
        for _ in range(N_STEPS):
            rows = random_rows(len(x), self.batch_size, random)
            log_weight, _ = self._weigh(x[rows], m[rows], self.n_training_samples, random)
            loss = -(torch.logsumexp(log_weight, 0) - math.log(self.n_training_samples)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return self.transform(table)

    @torch.no_grad()
    def transform(self, table: pd.DataFrame) -> pd.DataFrame:
        """Complete rows."""
        x, m = as_tensors(self.encoding, table)
        random, parts = torch.Generator().manual_seed(1), []
        for begin in range(0, len(x), self.batch_size):
            rows = slice(begin, begin + self.batch_size)
            log_weight, expected = self._weigh(x[rows], m[rows], self.n_samples, random)
            parts.append((torch.softmax(log_weight, 0).unsqueeze(-1) * expected).sum(0))
        return self.encoding.fill(table, torch.cat(parts).double().numpy())

    def _weigh(
        self, x: torch.Tensor, mask: torch.Tensor, n_samples: int, random: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-weights (K, N) and expected rows (K, N, D)."""
        mean, log_scale = self.encoder(x).chunk(2, -1)
        noise = torch.randn(n_samples, *mean.shape, generator=random)
        z = mean + functional.softplus(log_scale) * noise
        prior = -0.5 * (z**2).sum(-1)
        proposal = -0.5 * (noise**2).sum(-1) - torch.log(functional.softplus(log_scale)).sum(-1)
        centre, scale, freedom = self.decoder(z).chunk(3, -1)
        student = torch.distributions.StudentT(
            functional.softplus(freedom) + 3, centre, functional.softplus(scale) + 1e-3
        )
        shift = centre.detach().amax(-1, keepdim=True)
        per_attribute = centre.new_zeros(*centre.shape[:-1], int(self.attribute[-1]) + 1)
        total = per_attribute.index_add(-1, self.attribute, (centre - shift).exp())
        log_level = centre - shift - torch.log(total)[..., self.attribute]
        log_density = torch.where(self.number, student.log_prob(x), x * log_level)
        expected = torch.where(self.number, centre, log_level.exp())
        return (log_density * mask).sum(-1) + prior - proposal, expected
