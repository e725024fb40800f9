"""The Gaussian member of an ensemble: what mixtures of normal distributions expect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vsae_fast.closed_form_member import ClosedFormMember, number_columns
from vsae_fast.gaussian_mixture import Array, BoolArray, FloatArray, GaussianMixture
from vsae_fast.normal_scores import ScoreCurves
from vsae_fast.ops.layout import AttributeLayout


@dataclass(frozen=True, eq=False, repr=False)  # arrays are neither compared nor printed as a whole
class GaussianMember(ClosedFormMember):
    """Mixtures of normal distributions of all encoded columns, averaged, and their share; print it to see the shares.

    Where ``curves`` are given, of scores in place of numbers: with one component a Gaussian copula.

    Parameters
    ----------
    layout : AttributeLayout
    number_share, level_share : float
        Of the average, between 0 and 1: in numbers and in probabilities of levels.
    mixtures : tuple of GaussianMixture
        Of as many components each, from different random starts. Of columns less ``centre``, over ``scale``; of the
        scores of those that are numbers where there are ``curves``.
    centre, scale : numpy.ndarray of float64, shape (D,)
    curves : ScoreCurves, optional
        One for each column of numbers.
    n_threads : int
    """

    mixtures: tuple[GaussianMixture, ...]
    centre: Array
    scale: Array
    curves: ScoreCurves | None = None

    def __repr__(self) -> str:
        n_components = len(self.mixtures[0].weight)
        scores = "" if self.curves is None else ", normal scores"
        groups = "" if n_components == 1 else f", {len(self.mixtures)} mixtures of {n_components} components"
        return (
            f"GaussianMember({self.layout.n_columns} encoded columns{scores}{groups}; "
            f"share of the average: {self.number_share:.2f} in numbers, {self.level_share:.2f} in levels)"
        )

    def expected(self, x: FloatArray, observed: BoolArray) -> FloatArray:
        """See :meth:`ClosedFormMember.expected`.

        Levels are columns of 0 and 1 like others, so that their expected values can leave that range: they are held
        inside and add up to 1.
        """
        standardised = (x.astype(np.float64) - self.centre) / self.scale
        completed = self.completed_scores(self.scores(standardised), observed)
        if self.curves is not None:
            completed = self.curves.numbers_of(completed, self.n_threads)
        columns = (completed * self.scale + self.centre).T.copy()  # whose levels lie side by side, each a run of memory
        for kind, first, width in zip(self.layout.kinds, self.layout.starts, self.layout.widths, strict=False):
            if kind == "numerical":
                continue
            levels = columns[first : first + width]
            np.clip(levels, 0.0, 1.0, out=levels)
            total = np.zeros(len(x))
            for level in levels:  # one after the other: a row's sum shall not depend on the rows beside it
                total += level
            unknown = ~(total > 0)
            levels /= np.where(unknown, 1.0, total)
            levels[:, unknown] = 1 / width
        return np.where(observed, x, columns.T.astype(np.float32))

    def completed_scores(self, scores: Array, observed: BoolArray) -> Array:
        """Mean of what the mixtures expect, shape (N, D)."""
        total = self.mixtures[0].complete(scores, observed, self.n_threads)
        for mixture in self.mixtures[1:]:
            total += mixture.complete(scores, observed, self.n_threads)
        total /= len(self.mixtures)
        return total

    def scores(self, standardised: Array) -> Array:
        """What the normal distributions are of, shape (N, D), from standardised columns."""
        return standardised if self.curves is None else self.curves.scores_of(standardised, self.n_threads)

    @property
    def arrays(self) -> dict[str, Array]:
        """What it was fitted to, by name: the distributions, how columns are standardised, the curves."""
        fields = zip(GaussianMixture._fields, zip(*self.mixtures, strict=True), strict=True)
        arrays = {name: np.stack(of_mixtures) for name, of_mixtures in fields}
        arrays |= {"centre": self.centre, "scale": self.scale}
        return arrays if self.curves is None else {**arrays, "knots": self.curves.knots, "scores": self.curves.scores}

    @classmethod
    def of_arrays(cls, layout: AttributeLayout, arrays: Mapping[str, Array], shares: Sequence[float]) -> GaussianMember:
        """Member of :attr:`arrays` and of its shares of numbers and of levels.

        Raises
        ------
        ValueError
            Shapes that do not fit the layout, values that are not finite, weights or scales that are not positive,
            shares out of range, curves that do not increase.
        """
        n = layout.n_columns
        if "weight" not in arrays:  # up to format 9 of files: one normal distribution
            single = {"weight": np.ones((1, 1)), "mean": arrays["mean"][None, None],
                      "covariance": arrays["covariance"][None]}  # fmt: skip
            arrays = {**arrays, **single}
        weight = arrays["weight"]
        if weight.ndim != 2 or not weight.size:
            raise ValueError(f"weight of the Gaussian member must have two dimensions, got shape {weight.shape}")
        n_mixtures, n_components = weight.shape
        shapes = {"weight": weight.shape, "mean": (n_mixtures, n_components, n), "covariance": (n_mixtures, n, n),
                  "centre": (n,), "scale": (n,)}  # fmt: skip
        for name, shape in shapes.items():
            if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
                raise ValueError(f"{name} of the Gaussian member must be finite, of shape {shape}")
        number_share, level_share = map(float, shares)
        if (
            (weight <= 0).any()
            or (arrays["scale"] <= 0).any()
            or not (0 <= number_share <= 1 and 0 <= level_share <= 1)
        ):
            raise ValueError("weights and scales of the Gaussian member must be positive, its shares between 0 and 1")
        mixtures = tuple(map(GaussianMixture, weight, arrays["mean"], arrays["covariance"]))
        curves = None
        if "knots" in arrays:
            curves = ScoreCurves(number_columns(layout), arrays["knots"], arrays["scores"])
        return cls(layout, number_share, level_share, mixtures, arrays["centre"], arrays["scale"], curves)
