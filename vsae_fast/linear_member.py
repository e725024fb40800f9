"""The linear member of an ensemble: what a joint normal distribution expects, averaged with the networks' values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from vsae_fast.joint_gaussian import Array, BoolArray, JointGaussian
from vsae_fast.normal_scores import IntArray, ScoreCurves
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.ops.philox import uniforms

OWN_STREAM = 1 << 61  # apart from the seeds of the networks' draws


def number_columns(layout: AttributeLayout) -> IntArray:
    """Positions of the encoded columns that are numbers."""
    return np.flatnonzero(layout.numerical_columns(torch.device("cpu")).numpy()).astype(np.int32)


@dataclass(frozen=True, eq=False, repr=False)  # arrays are neither compared nor printed as a whole
class LinearMember:
    """A normal distribution of all encoded columns, and its share of the average; print it to see the shares.

    Where ``curves`` are given, of scores in place of numbers: a Gaussian copula.

    Parameters
    ----------
    layout : AttributeLayout
    gaussian : JointGaussian
        Of columns less ``centre``, over ``scale``; of the scores of those that are numbers where there are ``curves``.
    centre, scale : numpy.ndarray of float64, shape (D,)
    number_share, level_share : float
        Of the average, between 0 and 1: in numbers and in probabilities of levels.
    curves : ScoreCurves, optional
        One for each column of numbers.
    n_threads : int
    """

    layout: AttributeLayout
    gaussian: JointGaussian
    centre: Array
    scale: Array
    number_share: float
    level_share: float
    curves: ScoreCurves | None = None
    n_threads: int = 1

    def __repr__(self) -> str:
        return (
            f"LinearMember({self.layout.n_columns} encoded columns{'' if self.curves is None else ', normal scores'}; "
            f"share of the average: {self.number_share:.2f} in numbers, {self.level_share:.2f} in levels)"
        )

    def expected(self, x: npt.NDArray[np.float32], observed: BoolArray) -> npt.NDArray[np.float32]:
        """Expected numbers and probabilities of levels, float32 of shape (N, D); ``x`` itself where observed.

        Levels are columns of 0 and 1 like others, so that their expected values can leave that range: they are held
        inside and add up to 1.

        Parameters
        ----------
        x : numpy.ndarray of float32, shape (N, D)
        observed : numpy.ndarray of bool, shape (N, D)
        """
        standardised = (x.astype(np.float64) - self.centre) / self.scale
        completed = self.gaussian.complete(self.scores(standardised), observed, self.n_threads)
        if self.curves is not None:
            completed = self.curves.numbers_of(completed, self.n_threads)
        completed = completed * self.scale + self.centre
        for kind, first, width in zip(self.layout.kinds, self.layout.starts, self.layout.widths, strict=False):
            if kind == "numerical":
                continue
            levels = np.clip(completed[:, first : first + width], 0.0, 1.0)
            total = np.zeros(len(x))
            for level in range(width):  # one after the other: a row's sum shall not depend on the rows beside it
                total += levels[:, level]
            known = total > 0
            levels[known] /= total[known, None]
            levels[~known] = 1 / width
            completed[:, first : first + width] = levels
        return np.where(observed, x, completed.astype(np.float32))

    def scores(self, standardised: Array) -> Array:
        """What the normal distribution is of, shape (N, D), from standardised columns."""
        return standardised if self.curves is None else self.curves.scores_of(standardised, self.n_threads)

    @property
    def arrays(self) -> dict[str, Array]:
        """What it was fitted to, by name."""
        arrays = {"mean": self.gaussian.mean, "covariance": self.gaussian.covariance, "centre": self.centre,
                  "scale": self.scale}  # fmt: skip
        return arrays if self.curves is None else {**arrays, "knots": self.curves.knots, "scores": self.curves.scores}

    @classmethod
    def of_arrays(cls, layout: AttributeLayout, arrays: Mapping[str, Array], shares: Sequence[float]) -> LinearMember:
        """Member of :attr:`arrays` and of its shares of numbers and of levels.

        Raises
        ------
        ValueError
            Shapes that do not fit the layout, values that are not finite, scales or shares out of range, curves that
            do not increase.
        """
        n = layout.n_columns
        shapes = {"mean": (n,), "covariance": (n, n), "centre": (n,), "scale": (n,)}
        for name, shape in shapes.items():
            if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
                raise ValueError(f"{name} of the linear member must be finite, of shape {shape}")
        number_share, level_share = map(float, shares)
        if (arrays["scale"] <= 0).any() or not (0 <= number_share <= 1 and 0 <= level_share <= 1):
            raise ValueError("scales of the linear member must be positive, its shares between 0 and 1")
        gaussian = JointGaussian(arrays["mean"], arrays["covariance"])
        curves = None
        if "knots" in arrays:
            curves = ScoreCurves(number_columns(layout), arrays["knots"], arrays["scores"])
        return cls(layout, gaussian, arrays["centre"], arrays["scale"], number_share, level_share, curves)

    @property
    def shares(self) -> npt.NDArray[np.float32]:
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

        Numbers move by as much as their expected value. A level is drawn anew from the linear member's probabilities
        as often as is its share: draws of a mixture.

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

    def _average(self, networks: npt.NDArray[np.float32], own: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        average: npt.NDArray[np.float32] = networks + self.shares * (own - networks)
        return average

    def _observed_columns(self, mask: torch.Tensor) -> BoolArray:
        """``layout.expand`` in numpy, which leaves torch's pool asleep beside the kernels' threads."""
        return np.repeat(mask.cpu().numpy() > 0, self.layout.widths, axis=1)
