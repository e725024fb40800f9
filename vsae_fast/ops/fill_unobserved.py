"""Collective input: the data vector with its holes filled, concatenated with the mask (Gong et al. 2021, app. C)."""

from __future__ import annotations

import torch

from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.ops.registry import Op


def _reference(
    x: torch.Tensor, mask: torch.Tensor, noise: torch.Tensor | None, attribute_width: list[int]
) -> torch.Tensor:
    width = torch.tensor(attribute_width, device=mask.device)
    observed = mask if len(attribute_width) == x.shape[-1] else torch.repeat_interleave(mask, width, dim=-1)
    fill = x.new_zeros(()) if noise is None else noise
    return torch.cat([torch.where(observed > 0, x, fill), mask.to(x.dtype)], dim=-1)


OP = Op("fill_unobserved(Tensor x, Tensor mask, Tensor? noise, int[] attribute_width) -> Tensor", _reference)


def fill_unobserved(
    x: torch.Tensor, mask: torch.Tensor, noise: torch.Tensor | None, layout: AttributeLayout, backend: str = "auto"
) -> torch.Tensor:
    """Fill the holes and append the mask.

    Parameters
    ----------
    x : torch.Tensor, shape (N, D)
        Encoded data; what stands in unobserved columns is never read into the result.
    mask : torch.Tensor, shape (N, M)
        1 = observed.
    noise : torch.Tensor of shape (N, D) or (D,), or None
        Goes into the holes; None fills them with zeros, the mean of standardised columns.
    layout : AttributeLayout
    backend : {"auto", "reference"}

    Returns
    -------
    torch.Tensor, shape (N, D + M)

    Examples
    --------
    >>> layout = AttributeLayout(("numerical", "numerical"), (1, 1))
    >>> fill_unobserved(torch.tensor([[5.0, 9.0]]), torch.tensor([[1.0, 0.0]]), None, layout)
    tensor([[5., 0., 1., 0.]])
    """
    result: torch.Tensor = OP.select(backend, x)(x, mask, noise, list(layout.widths))
    return result
