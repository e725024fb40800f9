"""Likelihoods of many attributes at once: those of one kind and width take a few operations together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import nn

from vsae_fast.models.likelihoods import Likelihood, Standardisation, expected, log_likelihood, n_parameters
from vsae_fast.ops.layout import AttributeLayout

NEEDS_UNITS = ("positive", "count")
Units = tuple[torch.Tensor, torch.Tensor]  # mean and standard deviation of each column


class _Group(NamedTuple):
    """Attributes of one likelihood and width: parameters (..., G, P), values (..., G, W), units (G, W).

    Without a unit, values are standardised and stay so.
    """

    likelihood: Likelihood
    parameters: torch.Tensor
    value: torch.Tensor
    unit: Standardisation | None
    centre: torch.Tensor
    spread: torch.Tensor


class GroupedLikelihoods(nn.Module):
    """Likelihoods of some attributes of a layout, whose parameters are columns of one decoder's output.

    Attributes are taken, and results given, in the order of ``attributes``.

    Parameters
    ----------
    layout : AttributeLayout
    likelihoods : sequence of {"real", "positive", "count", "categorical", "ordinal"}
        Of all attributes of the layout.
    attributes : sequence of int
        Those that take part.
    """

    outputs: torch.Tensor  # columns of the decoder's output, in the order of the groups
    attributes: torch.Tensor
    own_columns: torch.Tensor  # of the attributes in an encoded row

    def __init__(
        self,
        layout: AttributeLayout,
        likelihoods: Sequence[Likelihood],
        attributes: Sequence[int],
    ) -> None:
        super().__init__()
        groups: dict[tuple[Likelihood, int], list[int]] = {}
        for place, attribute in enumerate(attributes):
            groups.setdefault((likelihoods[attribute], layout.widths[attribute]), []).append(place)
        self.keys = list(groups)
        self.widths = [len(members) * width for (_, width), members in groups.items()]
        self.output_widths = [len(members) * n_parameters(*key) for key, members in groups.items()]
        places = [place for members in groups.values() for place in members]
        order = [attributes[place] for place in places]
        outputs, columns = spans_of_outputs(layout, likelihoods), spans_of_columns(layout)
        of_columns = [column for attribute in order for column in columns[attribute]]
        own_columns = [column for attribute in attributes for column in columns[attribute]]
        self.in_order = order == list(range(layout.n_attributes))  # nothing to be brought into another order
        for name, index in (
            ("outputs", [output for attribute in order for output in outputs[attribute]]),
            ("columns", of_columns),
            ("attributes", list(attributes)),
            ("own_columns", own_columns),
            ("place", sorted(range(len(places)), key=places.__getitem__)),
            ("column_place", [of_columns.index(column) for column in own_columns]),
        ):
            self.register_buffer(name, torch.tensor(index, dtype=torch.int64), persistent=False)

    def parameters_of(self, output: torch.Tensor) -> torch.Tensor:
        """The decoder's output (..., P), its columns in the order of the groups."""
        return self._reorder(output, "outputs")

    def log_likelihood(self, parameters: torch.Tensor, x: torch.Tensor, units: Units) -> torch.Tensor:
        """Of each attribute, (..., G); densities of numbers are those of the encoded, standardised values.

        Parameters
        ----------
        parameters : torch.Tensor, shape (..., P)
            In the order of the groups.
        x : torch.Tensor, shape (N, D)
            Encoded rows of the whole layout.
        units : tuple of torch.Tensor, each of shape (D,)
            What the encoding subtracted and divided by.
        """
        terms = []
        for likelihood, own, value, unit, centre, spread in self._groups(parameters, x, units):
            if likelihood in NEEDS_UNITS:
                value = centre + spread * value
            term = log_likelihood(likelihood, own, value, unit)  # [..., G]
            terms.append(term + torch.log(spread).sum(-1) if likelihood == "positive" else term)
        return self._reorder(torch.cat(terms, -1), "place")

    def expected(self, parameters: torch.Tensor, weight: torch.Tensor, units: Units) -> torch.Tensor:
        """Expected values of the encoded columns (N, own columns), averaged over samples with the weights (K, N)."""
        values = []
        no_values = units[0]
        for likelihood, own, _, unit, centre, spread in self._groups(parameters, no_values, units):
            each = expected(likelihood, own, unit)  # [K, N, G, width]
            value = torch.einsum("kn,kngw->ngw", weight, each)
            values.append(((value - centre) / spread if likelihood in NEEDS_UNITS else value).flatten(-2))
        return self._reorder(torch.cat(values, -1), "column_place")

    def _groups(self, parameters: torch.Tensor, x: torch.Tensor, units: Units) -> Iterator[_Group]:
        """What the attributes of each group have in common."""
        outputs = parameters.split(self.output_widths, -1)
        columns = [self._reorder(by_column, "columns").split(self.widths, -1) for by_column in (x, *units)]
        for (likelihood, width), own, *named in zip(self.keys, outputs, *columns, strict=True):
            value, centre, spread = (of_group.unflatten(-1, (-1, width)) for of_group in named)
            unit = None
            if likelihood == "positive":
                unit = Standardisation(torch.log(centre), spread / centre)
            elif likelihood == "count":
                unit = Standardisation(torch.zeros_like(centre), centre)
            own = own.unflatten(-1, (-1, n_parameters(likelihood, width)))
            yield _Group(likelihood, own, value, unit, centre, spread)

    def _reorder(self, values: torch.Tensor, order: str) -> torch.Tensor:
        return values if self.in_order else values.index_select(-1, self.get_buffer(order))


def spans_of_outputs(layout: AttributeLayout, likelihoods: Sequence[Likelihood]) -> list[range]:
    """Columns of the decoder's output that are each attribute's parameters."""
    sizes = [n_parameters(*pair) for pair in zip(likelihoods, layout.widths, strict=True)]
    return [range(end - size, end) for size, end in zip(sizes, accumulate(sizes), strict=True)]


def spans_of_columns(layout: AttributeLayout) -> list[range]:
    """Columns of each attribute in an encoded row."""
    return [range(begin, begin + width) for begin, width in zip(layout.starts, layout.widths, strict=False)]
