"""What training maximises: the paper's two-phase bound, and hide-and-score with importance weighting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch

from vsae_fast.models.latent_model import LatentModel
from vsae_fast.ops.draws import Draws
from vsae_fast.ops.elbo import elbo
from vsae_fast.ops.sample_moments import sample_moments

TARGET_LIMIT = 10.0  # standard deviations of expected values; kTargetLimit in csrc/core/training_step.h


class Objective(Protocol):
    """A training loss and a validation score over encoded rows; ``mask`` is 1 where observed."""

    def loss(self, model: LatentModel, x: torch.Tensor, mask: torch.Tensor, epoch: int, draws: Draws) -> torch.Tensor:
        """Mean negative bound of a batch, a scalar to descend."""

    def score(self, model: LatentModel, x: torch.Tensor, mask: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Validation score of each row, higher is better, comparable between epochs for the same draws."""

    def phase(self, epoch: int) -> int:
        """A number that epochs share whose losses are made of the same operations."""


def fill_noise(model: LatentModel, x: torch.Tensor, draws: Draws) -> torch.Tensor | None:
    """Standard normal noise for the holes of a batch, shape (N, D); None where the model fills them with zeros."""
    return draws.normal(tuple(x.shape), x) if model.config.fill == "noise" else None


def importance_weighted(
    model: LatentModel,
    x: torch.Tensor,
    mask: torch.Tensor,
    visible: torch.Tensor,
    weight: torch.Tensor,
    n_samples: int,
    draws: Draws,
) -> torch.Tensor:
    """Bound of Burda et al. (2016) on each row, in nats, shape (N,).

    Parameters
    ----------
    model : LatentModel
    x : torch.Tensor, shape (N, D)
    mask : torch.Tensor, shape (N, M)
        1 = observed; what the mask decoder, where there is one, is scored on.
    visible : torch.Tensor, shape (N, M)
        Attributes that the encoders see.
    weight : torch.Tensor, shape (N, M)
        Of each attribute's likelihood.
    n_samples : int
        ``K``.
    draws : Draws
    """
    proposal = model.encode(x, visible, fill_noise(model, x, draws))
    noise = draws.normal((n_samples, *proposal.mean.shape), x)
    mask_logits, output = model.decode(proposal.sample(noise), proposal.hidden)  # [K, N, ...]
    bound = elbo(
        output,
        model.decoders.log_scale(),
        mask_logits,
        x,
        mask,
        proposal.mean,
        proposal.log_variance,
        model.layout,
        attribute_weight=weight,
        noise=noise,
    )
    return bound + model.decoders.mask_constant if model.decoders.mask_constant else bound


@contextmanager
def evaluation_mode(model: LatentModel) -> Iterator[None]:
    """Evaluation-mode statistics inside, the mode of before afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


class OnePhase:
    """Of an objective whose loss is the same in all epochs."""

    def phase(self, epoch: int) -> int:
        """0, always."""
        del epoch
        return 0


@dataclass(frozen=True)
class TwoPhase:
    """Gong et al. 2021, appendix D.

    Phase 1 maximises the bound on ``(x_o, m)``. In phase 2 every batch is fed twice: the first pass, without gradient,
    gives what the current model expects of ``x_u`` over samples of ``z``; the second scores it with a fresh ``z``. The
    paper draws ``x_u`` as well; taking that average in closed form leaves the expectation of every gradient as it is
    (:func:`vsae_fast.ops.sample_moments.sample_moments`). What is expected stays within ten standard deviations: a row
    unlike all others can make the decoder extrapolate, and what it learns from its own extrapolation is to go further.

    Parameters
    ----------
    warmup_epochs : int
        Epochs of phase 1.
    n_unobserved_samples : int
        Samples of ``z`` in the first pass.
    n_validation_samples : int
        Samples of ``z`` that the validation bound averages.
    """

    warmup_epochs: int = 100
    n_unobserved_samples: int = 100
    n_validation_samples: int = 8

    def loss(self, model: LatentModel, x: torch.Tensor, mask: torch.Tensor, epoch: int, draws: Draws) -> torch.Tensor:
        target, variance, weight = x, None, mask
        if self.phase(epoch):
            target, variance = self.expected_target(model, x, mask, draws)
            weight = torch.ones_like(mask)
        fill = fill_noise(model, x, draws)
        latent = draws.normal((x.shape[0], model.n_latent), x)
        bound = model.elbo(
            x,
            mask,
            latent_noise=latent,
            fill_noise=fill,
            target=target,
            target_variance=variance,
            attribute_weight=weight,
        )
        return -bound.mean()

    def phase(self, epoch: int) -> int:
        """0 while the bound on ``(x_o, m)`` alone is maximised, then 1."""
        return int(epoch >= self.warmup_epochs)

    @torch.no_grad()
    def expected_target(
        self, model: LatentModel, x: torch.Tensor, mask: torch.Tensor, draws: Draws
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Observed values and the expected ``x_u``: target and variance, each (N, D)."""
        with evaluation_mode(model):
            proposal = model.encode(x, mask, fill_noise(model, x, draws))
            moment, variance = sample_moments(
                proposal.mean,
                proposal.scale,
                model.folded(),
                n_samples=self.n_unobserved_samples,
                draws=draws,
                context=model.decoders.fold_context(proposal.hidden),
            )
        observed = model.layout.expand(mask) > 0
        moment = moment.clamp(-TARGET_LIMIT, TARGET_LIMIT)
        variance = variance.clamp(max=TARGET_LIMIT**2)
        return torch.where(observed, x, moment), torch.where(observed, 0.0, variance)

    def score(self, model: LatentModel, x: torch.Tensor, mask: torch.Tensor, draws: Draws) -> torch.Tensor:
        total = x.new_zeros(x.shape[0])
        for _ in range(self.n_validation_samples):
            fill = fill_noise(model, x, draws)
            latent = draws.normal((x.shape[0], model.n_latent), x)
            total += model.elbo(x, mask, latent_noise=latent, fill_noise=fill)
        return total / self.n_validation_samples


@dataclass(frozen=True)
class HideAndScore(OnePhase):
    """Hide a further random part of the observed cells from the encoders and score all of them.

    It trains the collective network for the task that it has at imputation, with the importance-weighted bound of Burda
    et al. (2016) so that the posterior does not collapse::

        log 1/K sum_k p(x_hidden | z_k) p(x_visible | z_k)^c p(m | z_k) p(z_k) / q(z_k | x_visible, m_visible)

    Parameters
    ----------
    n_samples : int
        ``K``.
    visible_weight : float
        ``c``, the weight of cells that the encoders see; the same weight is used at imputation.
    hidden_share : tuple of float
        Range from which each row draws the share of its observed cells to hide.
    """

    n_samples: int = 5
    visible_weight: float = 0.2
    hidden_share: tuple[float, float] = (0.1, 0.8)
    n_validation_patterns: int = 4

    def hide(self, mask: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Draw which observed cells stay visible, shape (N, M)."""
        low, high = self.hidden_share
        draw = draws.uniform((mask.shape[0], 1), mask)
        uniform = draws.uniform(tuple(mask.shape), mask)
        return mask * (uniform >= low + (high - low) * draw)

    def bound(
        self,
        model: LatentModel,
        x: torch.Tensor,
        mask: torch.Tensor,
        visible: torch.Tensor,
        weight: torch.Tensor,
        draws: Draws,
    ) -> torch.Tensor:
        """Importance-weighted bound of each row with a weight per attribute, shape (N,)."""
        return importance_weighted(model, x, mask, visible, weight, self.n_samples, draws)

    def loss(self, model: LatentModel, x: torch.Tensor, mask: torch.Tensor, epoch: int, draws: Draws) -> torch.Tensor:
        visible = self.hide(mask, draws)
        weight = mask - (1 - self.visible_weight) * visible
        return -self.bound(model, x, mask, visible, weight, draws).mean() / model.layout.n_attributes

    def score(self, model: LatentModel, x: torch.Tensor, mask: torch.Tensor, draws: Draws) -> torch.Tensor:
        total = x.new_zeros(x.shape[0])
        for _ in range(self.n_validation_patterns):
            visible = self.hide(mask, draws)
            weight = mask - (1 - self.visible_weight) * visible
            total += self.bound(model, x, mask, visible, weight, draws)
        return total / self.n_validation_patterns
