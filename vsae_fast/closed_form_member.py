"""The closed-form member of an ensemble: a simple latent-variable model, averaged with the networks' values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from vsae_fast.gaussian_mixture import Array, BoolArray, FloatArray
from vsae_fast.normal_scores import IntArray
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.ops.philox import uniforms

OWN_STREAM = 1 << 61  # apart from the seeds of the networks' draws


def number_columns(layout: AttributeLayout) -> IntArray:
    """Positions of the encoded columns that are numbers."""
    return np.flatnonzero(layout.numerical_columns(torch.device("cpu")).numpy()).astype(np.int32)


@dataclass(frozen=True, eq=False, repr=False)  # arrays are neither compared nor printed as a whole
class ClosedFormMember(ABC):
    """Model whose expected values have a closed form for every pattern of holes, and its share of the average.

    Parameters
    ----------
    layout : AttributeLayout
    number_share, level_share : float
        Of the average, between 0 and 1: in numbers and in probabilities of levels.
    n_threads : int
    """

    layout: AttributeLayout
    number_share: float
    level_share: float
    n_threads: int = field(default=1, kw_only=True)

    @abstractmethod
    def expected(self, x: FloatArray, observed: BoolArray) -> FloatArray:
        """Expected numbers and probabilities of levels, float32 of shape (N, D); ``x`` itself where observed.

        Every row is computed alone.

        Parameters
        ----------
        x : numpy.ndarray of float32, shape (N, D)
        observed : numpy.ndarray of bool, shape (N, D)
        """

    @property
    @abstractmethod
    def arrays(self) -> dict[str, Array]:
        """What it was fitted to, by name."""

    @classmethod
    @abstractmethod
    def of_arrays(
        cls, layout: AttributeLayout, arrays: Mapping[str, Array], shares: Sequence[float]
    ) -> ClosedFormMember:
        """Member of :attr:`arrays` and of its shares of numbers and of levels; ValueError where they are none."""

    @property
    def shares(self) -> FloatArray:
        """Share of the average in each column, float32 of shape (D,)."""
        of_kind = {"numerical": self.number_share, "categorical": self.level_share}
        return np.repeat(np.array([of_kind[kind] for kind in self.layout.kinds], dtype=np.float32), self.layout.widths)

    def blend(self, x: torch.Tensor, mask: torch.Tensor, imputed: torch.Tensor) -> torch.Tensor:
        """Average with what networks expect.

        Parameters
        ----------
        x : torch.Tensor of float32, shape (N, D)
        mask : torch.Tensor of float32, shape (N, M)
            1 = observed.
        imputed : torch.Tensor of float32, shape (N, D)
            The networks' expected values.

        Returns
        -------
        torch.Tensor of float32, shape (N, D)
            On the device of ``imputed``.
        """
        own = self.expected(x.cpu().numpy(), self._observed_columns(mask))
        return torch.from_numpy(self._average(imputed.cpu().numpy(), own)).to(imputed.device)

    def blend_draws(
        self,
        x: torch.Tensor,
        mask: torch.Tensor,
        imputed: torch.Tensor,
        drawn: torch.Tensor,
        seed: int,
        row_id: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Average expected values as :meth:`blend` does, and make draws those of the average.

        Numbers move by as much as their expected value. A level is drawn anew from the member's probabilities as often
        as is its share: draws of a mixture.

        Parameters
        ----------
        x, mask, imputed
            See :meth:`blend`.
        drawn : torch.Tensor of float32, shape (N, D)
            From a network: numbers, and one-hot levels.
        seed : int
        row_id : torch.Tensor of int64, shape (N,)
            Name a row's random numbers.

        Returns
        -------
        imputed, drawn : torch.Tensor of float32, shape (N, D)
        """
        networks, draws = imputed.cpu().numpy(), drawn.cpu().numpy().copy()
        observed = self._observed_columns(mask)
        own = self.expected(x.cpu().numpy(), observed)
        blended = self._average(networks, own)
        levels = [a for a, kind in enumerate(self.layout.kinds) if kind == "categorical"]
        uniform = uniforms(seed ^ OWN_STREAM, row_id, 1, 2 * len(levels))[:, 0].numpy()
        for position, attribute in enumerate(levels):
            columns = slice(self.layout.starts[attribute], self.layout.starts[attribute + 1])
            anew = (uniform[:, 2 * position] < self.level_share) & ~observed[:, columns.start]
            below = np.cumsum(own[anew, columns], axis=1)[:, :-1] <= uniform[anew, 2 * position + 1, None]
            draws[anew, columns] = np.eye(columns.stop - columns.start, dtype=np.float32)[below.sum(1)]
        numbers = number_columns(self.layout)
        draws[:, numbers] += (blended - networks)[:, numbers]
        return torch.from_numpy(blended), torch.from_numpy(draws)

    def _average(self, networks: FloatArray, own: FloatArray) -> FloatArray:
        average: FloatArray = networks + self.shares * (own - networks)
        return average

    def _observed_columns(self, mask: torch.Tensor) -> BoolArray:
        """``layout.expand`` in numpy, which leaves torch's pool asleep beside the kernels' threads."""
        return np.repeat(mask.cpu().numpy() > 0, self.layout.widths, axis=1)
