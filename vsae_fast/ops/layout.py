"""How attributes lie in the columns of an encoded table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any, Literal, get_args

import torch

from vsae_fast.pairing import check_paired

Kind = Literal["numerical", "categorical"]
KIND_NAMES: tuple[Kind, ...] = get_args(Kind)  # by their codes, AttributeKind in csrc/core/importance_impute.h
KIND_CODES: dict[Kind, int] = {kind: code for code, kind in enumerate(KIND_NAMES)}


@dataclass(frozen=True)
class AttributeGroup:
    """Attributes of one kind whose widths round up to the same power of two.

    Parameters
    ----------
    kind : {"numerical", "categorical"}
    attributes : tuple of int
        Positions of the ``G`` members among the ``M`` attributes.
    width : int
        Widest member; narrower ones are padded to it.
    columns : torch.Tensor of int64, shape (G, width)
        Encoded columns of each member; ``D`` (one past the last column) marks padding.
    members : torch.Tensor of int64, shape (G,)
        ``attributes`` on the device, so that no index has to be copied there.
    """

    kind: Kind
    attributes: tuple[int, ...]
    width: int
    columns: torch.Tensor
    members: torch.Tensor


@dataclass(frozen=True)
class AttributeLayout:
    """Kinds and widths of the ``M`` attributes of an encoded table with ``D`` columns.

    Parameters
    ----------
    kinds : tuple of {"numerical", "categorical"}
        Numerical attributes have a Gaussian likelihood, categorical ones (one-hot blocks) a softmax.
    widths : tuple of int
        Columns of each attribute: 1 for a number, the number of levels for a category.

    Examples
    --------
    >>> layout = AttributeLayout(("numerical", "categorical"), (1, 3))
    >>> layout.n_attributes, layout.n_columns, layout.starts
    (2, 4, (0, 1, 4))
    """

    kinds: tuple[Kind, ...]
    widths: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.kinds) != len(self.widths) or not self.kinds:
            raise ValueError(f"kinds ({len(self.kinds)}) and widths ({len(self.widths)}) must be of one length, not 0")
        for position, (kind, width) in enumerate(zip(self.kinds, self.widths, strict=True)):
            if kind not in get_args(Kind):
                raise ValueError(f"attribute {position}: unknown kind {kind!r}; use one of {get_args(Kind)}")
            if width < 1:
                raise ValueError(f"attribute {position}: width must be at least 1, got {width}")

    @property
    def n_attributes(self) -> int:
        """``M``."""
        return len(self.kinds)

    @property
    def n_columns(self) -> int:
        """``D``."""
        return sum(self.widths)

    @property
    def starts(self) -> tuple[int, ...]:
        """First column of each attribute, then ``D``: ``M + 1`` values."""
        return (0, *accumulate(self.widths))

    @property
    def kind_codes(self) -> tuple[int, ...]:
        """Kinds as the integers that the kernels use."""
        return tuple(KIND_CODES[kind] for kind in self.kinds)

    def column_attribute(self, device: torch.device) -> torch.Tensor:
        """Attribute of each column, shape (D,), int64."""
        return column_attribute(self.widths, device)

    def numerical_columns(self, device: torch.device) -> torch.Tensor:
        """Whether each column belongs to a numerical attribute, shape (D,)."""
        return _numerical_columns(self, device)

    def attribute_widths(self, device: torch.device) -> torch.Tensor:
        """Columns of each attribute, shape (M,), int64."""
        return _attribute_widths(self, device)

    def expand(self, mask: torch.Tensor) -> torch.Tensor:
        """Mask per attribute (..., M) to mask per column (..., D)."""
        if self.n_columns == self.n_attributes:
            return mask
        return mask[..., self.column_attribute(mask.device)]

    def join(self, attributes: torch.Tensor | Mapping[Any, torch.Tensor]) -> torch.Tensor:
        """Attributes side by side.

        Parameters
        ----------
        attributes : mapping of name to torch.Tensor, or torch.Tensor of shape (N, D)
            One tensor per attribute in the layout's order, of shape (N, ...), or (N,) where it is one column wide; a
            tensor that is joined already is given back.

        Returns
        -------
        torch.Tensor, shape (N, D)

        Raises
        ------
        ValueError
            Another number of attributes, other widths, no rows or different numbers of rows.

        Examples
        --------
        >>> layout = AttributeLayout(("numerical", "categorical"), (4, 3))
        >>> layout.join({"image": torch.zeros(5, 2, 2), "label": torch.eye(3)[[0, 1, 2, 0, 1]]}).shape
        torch.Size([5, 7])
        """
        if isinstance(attributes, torch.Tensor):
            return attributes
        if len(attributes) != self.n_attributes:
            raise ValueError(f"x has {len(attributes)} attributes, but the model has {self.n_attributes}")
        check_paired({name: len(values) for name, values in attributes.items()})
        parts = []
        for (name, values), width in zip(attributes.items(), self.widths, strict=True):
            flat = values.reshape(len(values), -1)
            if flat.shape[1] != width:
                shape = tuple(values.shape[1:])
                raise ValueError(f"attribute {name!r} has rows of shape {shape}, but the model has {width} column(s)")
            parts.append(flat)
        return torch.cat(parts, dim=1)

    def groups(self, device: torch.device) -> tuple[AttributeGroup, ...]:
        """Attributes by kind and width, so that each group is one batched operation."""
        return _groups(self, device)


# Kept for each device: a copy to a GPU is waited for.
@lru_cache(maxsize=256)
def column_attribute(widths: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Attribute of each column, shape (D,), int64."""
    return torch.repeat_interleave(torch.arange(len(widths)), torch.tensor(widths)).to(device)


@lru_cache(maxsize=256)
def _numerical_columns(layout: AttributeLayout, device: torch.device) -> torch.Tensor:
    numerical = torch.tensor([kind == "numerical" for kind in layout.kinds])
    return numerical[layout.column_attribute(torch.device("cpu"))].to(device)


@lru_cache(maxsize=256)
def _attribute_widths(layout: AttributeLayout, device: torch.device) -> torch.Tensor:
    return torch.tensor(layout.widths, device=device)


@lru_cache(maxsize=256)
def _groups(layout: AttributeLayout, device: torch.device) -> tuple[AttributeGroup, ...]:
    alike: dict[tuple[Kind, int], list[int]] = {}
    for attribute, (kind, width) in enumerate(zip(layout.kinds, layout.widths, strict=True)):
        alike.setdefault((kind, (width - 1).bit_length()), []).append(attribute)
    groups = []
    for (kind, _), attributes in sorted(alike.items()):
        width = max(layout.widths[a] for a in attributes)
        columns = torch.full((len(attributes), width), layout.n_columns, dtype=torch.int64)
        for g, a in enumerate(attributes):
            columns[g, : layout.widths[a]] = torch.arange(layout.starts[a], layout.starts[a + 1])
        members = torch.tensor(attributes)
        groups.append(AttributeGroup(kind, tuple(attributes), width, columns.to(device), members.to(device)))
    return tuple(groups)


def gather_group(x: torch.Tensor, group: AttributeGroup, padding: float) -> torch.Tensor:
    """Columns of one group, shape (..., G, width), with ``padding`` where a member is narrower."""
    columns = group.columns
    if group.width == 1:
        return x[..., columns[:, 0]].unsqueeze(-1)
    extended = torch.nn.functional.pad(x, (0, 1), value=padding)  # [..., D + 1]
    return extended[..., columns]
