"""What the models that the VSAE is compared with maximise in training."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vsae_fast.models.latent_model import LatentModel
from vsae_fast.models.mvae import MVAE
from vsae_fast.objective import OnePhase, fill_noise, importance_weighted
from vsae_fast.ops.draws import Draws


@dataclass(frozen=True)
class EvidenceBound(OnePhase):
    """Single-sample bound on log p(x_o): of the autoencoder (which has no divergence), VAE, CVAE and HI-VAE.

    Parameters
    ----------
    n_validation_samples : int
        Samples of z that the validation bound averages.
    """

    n_validation_samples: int = 8

    def loss(self, model: LatentModel, x: torch.Tensor, mask: torch.Tensor, epoch: int, draws: Draws) -> torch.Tensor:
        """Mean negative bound of a batch."""
        del epoch
        return -self._bound(model, x, mask, draws).mean()

    def score(self, model: LatentModel, x: torch.Tensor, mask: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Bound of each row, averaged over samples of z, shape (N,)."""
        bounds = [self._bound(model, x, mask, draws) for _ in range(self.n_validation_samples)]
        return torch.stack(bounds).mean(0)

    def _bound(self, model: LatentModel, x: torch.Tensor, mask: torch.Tensor, draws: Draws) -> torch.Tensor:
        fill = fill_noise(model, x, draws)
        return model.elbo(x, mask, latent_noise=draws.normal((len(x), model.n_latent), x), fill_noise=fill)


@dataclass(frozen=True)
class Subsampled(OnePhase):
    """Bounds of the observed attributes together, of each one alone, and of random subsets (Wu and Goodman 2018).

    ::

        ELBO(x_o) + sum_{i in o} ELBO(x_i) + sum_j ELBO(x_{s_j}),   s_j a random part of o

    A row takes part in the bound of an attribute that it lacks with the divergence of the prior from itself, which
    is 0. The experts propose once for all subsets; their batch normalisation sees every row that has the attribute.

    Parameters
    ----------
    n_subsets : int
        Random subsets of each row and batch; none where there are two attributes, whose subsets are all there already.
    n_validation_samples : int
    """

    n_subsets: int = 1
    n_validation_samples: int = 8

    def loss(self, model: LatentModel, x: torch.Tensor, mask: torch.Tensor, epoch: int, draws: Draws) -> torch.Tensor:
        """Mean negative sum of the bounds of a batch.

        Raises
        ------
        TypeError
            A model without experts.
        """
        del epoch
        if not isinstance(model, MVAE):
            raise TypeError(f"Subsampled trains an MVAE, got {type(model).__name__}; use EvidenceBound")
        n_attributes = model.layout.n_attributes
        parts = [mask, *(mask * alone for alone in torch.eye(n_attributes, dtype=mask.dtype, device=mask.device))]
        if n_attributes > 2:
            parts += [mask * (draws.uniform(tuple(mask.shape), mask) < 0.5) for _ in range(self.n_subsets)]
        experts = model.propose_each(x, mask)
        total = x.new_zeros(())
        for part in parts:
            noise = draws.normal((len(x), model.n_latent), x)
            total = total - model.elbo_of(model.combine(experts, part), x, part, latent_noise=noise).mean()
        return total

    def score(self, model: LatentModel, x: torch.Tensor, mask: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Bound on log p(x_o) of each row, averaged over samples of z, shape (N,)."""
        return EvidenceBound(self.n_validation_samples).score(model, x, mask, draws)


@dataclass(frozen=True)
class ImportanceWeighted(OnePhase):
    """Bound of K importance samples on log p(x_o) (Burda et al. 2016; Mattei and Frellsen 2019).

    Parameters
    ----------
    n_samples : int
        ``K``.
    """

    n_samples: int = 20

    def loss(self, model: LatentModel, x: torch.Tensor, mask: torch.Tensor, epoch: int, draws: Draws) -> torch.Tensor:
        """Mean negative bound of a batch."""
        del epoch
        return -self.score(model, x, mask, draws).mean()

    def score(self, model: LatentModel, x: torch.Tensor, mask: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Bound of each row, shape (N,)."""
        return importance_weighted(model, x, mask, mask, mask, self.n_samples, draws)
