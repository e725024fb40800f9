"""Both decoders as the sampling ops take them: dense layers only, batch norms and linear tails folded away."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import torch
from torch.nn import functional

from vsae_fast.ops.layout import KIND_NAMES, AttributeLayout

FLOATS_AT_ONCE = 1 << 22  # hidden values that plain PyTorch holds at once


@dataclass(frozen=True)
class DenseLayer:
    """``y = W x + b``, LeakyReLU after it where ``activation`` is set; weight (out, in), bias (out,)."""

    weight: torch.Tensor
    bias: torch.Tensor
    activation: bool

    def to(self, dtype: torch.dtype, device: torch.device) -> DenseLayer:
        """Copy in one dtype on one device, contiguous."""
        weight, bias = (t.detach().to(device, dtype).contiguous() for t in (self.weight, self.bias))
        return DenseLayer(weight, bias, self.activation)


class WideLikelihood(NamedTuple):
    """Gaussian likelihood of a wide attribute in terms of the last hidden vector ``h``.

    With ``Q R = W / scale``, ``|(x - b - W h) / scale|^2 = |R h - Q'(x - b) / scale|^2 + rest``, and ``rest`` does not
    depend on ``h``.

    Attributes
    ----------
    attribute : int
    triangle : torch.Tensor, shape (H, H)
        ``R``, upper triangular.
    projection : torch.Tensor, shape (width, H)
        ``Q``.
    """

    attribute: int
    triangle: torch.Tensor
    projection: torch.Tensor


@dataclass(frozen=True)
class FoldedDecoders:
    """Mask decoder and data decoder in evaluation mode.

    Parameters
    ----------
    mask_layers : tuple of DenseLayer
        From z (L) to the M mask logits.
    data_layers : tuple of DenseLayer
        Hidden layers of the data decoder, from ``[z, pi]`` (L + M); at least one.
    output : DenseLayer
        From the last hidden vector to the D outputs, without activation.
    log_scale : torch.Tensor, shape (D,)
        Log standard deviation of numerical columns.
    layout : AttributeLayout
    negative_slope : float
    """

    mask_layers: tuple[DenseLayer, ...]
    data_layers: tuple[DenseLayer, ...]
    output: DenseLayer
    log_scale: torch.Tensor
    layout: AttributeLayout
    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        if not self.mask_layers or not self.data_layers:
            raise ValueError("the mask decoder needs a layer and the data decoder a hidden layer")
        if self.output.activation or self.mask_layers[-1].activation:
            raise ValueError("the last layer of a decoder has no activation")

    @property
    def n_latent(self) -> int:
        """``L``."""
        return self.mask_layers[0].weight.shape[1]

    def rows_at_once(self, n_samples: int) -> int:
        """Rows whose samples plain PyTorch decodes at once, so that memory does not grow with their number."""
        widest = max(max(layer.weight.shape[0] for layer in self.data_layers), self.layout.n_columns)
        return max(1, FLOATS_AT_ONCE // (n_samples * widest))

    @cached_property
    def wide_likelihoods(self) -> tuple[WideLikelihood, ...]:
        """One for each numerical attribute with at least as many columns as the last hidden layer has units."""
        result = []
        for attribute, (kind, width) in enumerate(zip(self.layout.kinds, self.layout.widths, strict=True)):
            if kind == "numerical" and width >= max(self.output.weight.shape[1], 2):
                begin = self.layout.starts[attribute]
                columns = slice(begin, begin + width)
                scaled = self.output.weight[columns].double() * torch.exp(-self.log_scale[columns].double())[:, None]
                q, r = torch.linalg.qr(scaled)
                dtype = self.output.weight.dtype
                result.append(WideLikelihood(attribute, r.to(dtype).contiguous(), q.to(dtype).contiguous()))
        return tuple(result)

    def to(self, dtype: torch.dtype, device: torch.device) -> FoldedDecoders:
        """Copy with every tensor in one dtype on one device, contiguous."""

        def cast(layer: DenseLayer) -> DenseLayer:
            return layer.to(dtype, device)

        return FoldedDecoders(
            tuple(map(cast, self.mask_layers)),
            tuple(map(cast, self.data_layers)),
            cast(self.output),
            self.log_scale.detach().to(device, dtype).contiguous(),
            self.layout,
            self.negative_slope,
        )

    def decode(self, z: torch.Tensor, context: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mask logits (..., M) and outputs (..., D) for latents (..., L) and a context of the first layer."""
        mask_logits = self._run(self.mask_layers, z, None)
        hidden = self._run(self.data_layers, torch.cat([z, mask_logits.sigmoid()], -1), context)
        return mask_logits, functional.linear(hidden, self.output.weight, self.output.bias)

    def _run(self, layers: tuple[DenseLayer, ...], h: torch.Tensor, context: torch.Tensor | None) -> torch.Tensor:
        for layer in layers:
            h = functional.linear(h, layer.weight, layer.bias)
            if context is not None:
                h, context = h + context, None
            if layer.activation:
                h = functional.leaky_relu(h, self.negative_slope)
        return h


def unflatten(
    mask_weight: list[torch.Tensor],
    mask_bias: list[torch.Tensor],
    mask_activation: list[bool],
    data_weight: list[torch.Tensor],
    data_bias: list[torch.Tensor],
    data_activation: list[bool],
    log_scale: torch.Tensor,
    attribute_start: list[int],
    attribute_kind: list[int],
    negative_slope: float,
) -> FoldedDecoders:
    """Decoders from what a torch schema can hold; ``data_*`` ends with the output layer."""
    widths = tuple(b - a for a, b in pairwise(attribute_start))
    layout = AttributeLayout(tuple(KIND_NAMES[kind] for kind in attribute_kind), widths)
    data = tuple(map(DenseLayer, data_weight, data_bias, data_activation))
    mask = tuple(map(DenseLayer, mask_weight, mask_bias, mask_activation))
    return FoldedDecoders(mask, data[:-1], data[-1], log_scale, layout, negative_slope)
