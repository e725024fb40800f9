"""The latent-class member of an ensemble, of tables whose columns are all categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vsae_fast.closed_form_member import ClosedFormMember
from vsae_fast.gaussian_mixture import Array, BoolArray, FloatArray
from vsae_fast.latent_classes import LatentClasses, level_probabilities
from vsae_fast.normal_scores import IntArray
from vsae_fast.ops.layout import AttributeLayout


@dataclass(frozen=True, eq=False, repr=False)  # arrays are neither compared nor printed as a whole
class ClassMember(ClosedFormMember):
    """Several mixtures of latent classes, averaged, and their share of the average; print it to see the share.

    Parameters
    ----------
    layout : AttributeLayout
        Of categories alone.
    number_share, level_share : float
        Of the average, between 0 and 1; there are no numbers.
    mixtures : tuple of LatentClasses
        Of as many classes each, from different random starts.
    n_threads : int
    """

    mixtures: tuple[LatentClasses, ...]

    def __repr__(self) -> str:
        return (
            f"ClassMember({self.layout.n_attributes} attributes, {len(self.mixtures)} mixtures of "
            f"{len(self.mixtures[0].weight)} classes; share of the average: {self.level_share:.2f})"
        )

    def expected(self, x: FloatArray, observed: BoolArray) -> FloatArray:
        """See :meth:`ClosedFormMember.expected`."""
        return level_probabilities(self.mixtures, x, observed, self.n_threads)

    @property
    def arrays(self) -> dict[str, Array]:
        """What it was fitted to, by name: the mixtures' weights and their probabilities of levels."""
        return {
            "weight": np.stack([mixture.weight for mixture in self.mixtures]),
            "level": np.stack([mixture.level for mixture in self.mixtures]),
        }

    @classmethod
    def of_arrays(cls, layout: AttributeLayout, arrays: Mapping[str, Array], shares: Sequence[float]) -> ClassMember:
        """Member of :attr:`arrays` and of its shares of numbers and of levels.

        Raises
        ------
        ValueError
            Shapes that do not fit the layout, a layout with numbers, probabilities that are not positive and finite,
            shares out of range.
        """
        weight, level = arrays["weight"], arrays["level"]
        if "numerical" in layout.kinds:
            raise ValueError("the latent-class member is of tables of categories alone")
        if weight.ndim != 2 or not weight.size or level.shape != (len(weight), layout.n_columns, weight.shape[1]):
            raise ValueError(
                f"weight and level of the latent-class member must have shapes (R, K) and (R, {layout.n_columns}, K)"
            )
        for name, array in (("weight", weight), ("level", level)):
            if not (np.isfinite(array).all() and (array > 0).all()):
                raise ValueError(f"{name} of the latent-class member must be positive and finite")
        number_share, level_share = map(float, shares)
        if not (0 <= number_share <= 1 and 0 <= level_share <= 1):
            raise ValueError("shares of the latent-class member must be between 0 and 1")
        starts = np.array(layout.starts, dtype=np.int32)
        mixtures = tuple(LatentClasses(starts, *own) for own in zip(weight, level, strict=True))
        return cls(layout, number_share, level_share, mixtures)


def levels_of(layout: AttributeLayout, x: FloatArray, observed: BoolArray) -> IntArray:
    """Observed levels of one-hot rows, counted from 0 within the attribute, shape (N, M); -1 where unobserved."""
    levels = np.full((len(x), layout.n_attributes), -1, dtype=np.int32)
    for attribute, (first, width) in enumerate(zip(layout.starts, layout.widths, strict=False)):
        own = x[:, first : first + width].argmax(axis=1)
        levels[:, attribute] = np.where(observed[:, first], own, -1)
    return levels
