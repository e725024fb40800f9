"""The linear member of an ensemble: what a joint normal distribution expects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vsae_fast.closed_form_member import ClosedFormMember, number_columns
from vsae_fast.joint_gaussian import Array, BoolArray, FloatArray, JointGaussian
from vsae_fast.normal_scores import ScoreCurves
from vsae_fast.ops.layout import AttributeLayout


@dataclass(frozen=True, eq=False, repr=False)  # arrays are neither compared nor printed as a whole
class LinearMember(ClosedFormMember):
    """A normal distribution of all encoded columns, and its share of the average; print it to see the shares.

    Where ``curves`` are given, of scores in place of numbers: a Gaussian copula.

    Parameters
    ----------
    layout : AttributeLayout
    number_share, level_share : float
        Of the average, between 0 and 1: in numbers and in probabilities of levels.
    gaussian : JointGaussian
        Of columns less ``centre``, over ``scale``; of the scores of those that are numbers where there are ``curves``.
    centre, scale : numpy.ndarray of float64, shape (D,)
    curves : ScoreCurves, optional
        One for each column of numbers.
    n_threads : int
    """

    gaussian: JointGaussian
    centre: Array
    scale: Array
    curves: ScoreCurves | None = None

    def __repr__(self) -> str:
        return (
            f"LinearMember({self.layout.n_columns} encoded columns{'' if self.curves is None else ', normal scores'}; "
            f"share of the average: {self.number_share:.2f} in numbers, {self.level_share:.2f} in levels)"
        )

    def expected(self, x: FloatArray, observed: BoolArray) -> FloatArray:
        """See :meth:`ClosedFormMember.expected`.

        Levels are columns of 0 and 1 like others, so that their expected values can leave that range: they are held
        inside and add up to 1.
        """
        standardised = (x.astype(np.float64) - self.centre) / self.scale
        completed = self.gaussian.complete(self.scores(standardised), observed, self.n_threads)
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

    def scores(self, standardised: Array) -> Array:
        """What the normal distribution is of, shape (N, D), from standardised columns."""
        return standardised if self.curves is None else self.curves.scores_of(standardised, self.n_threads)

    @property
    def arrays(self) -> dict[str, Array]:
        """What it was fitted to, by name: the distribution, how columns are standardised, the curves."""
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
        return cls(layout, number_share, level_share, gaussian, arrays["centre"], arrays["scale"], curves)
