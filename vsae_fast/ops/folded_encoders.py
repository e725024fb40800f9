"""The proposal networks as :mod:`vsae_fast.ops.propose` takes them: dense layers only, batch norms folded away."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vsae_fast.ops.folded_decoders import DenseLayer
from vsae_fast.ops.layout import AttributeLayout


@dataclass(frozen=True)
class FoldedEncoders:
    """Attributive and collective networks in evaluation mode; LeakyReLU follows every layer but the heads.

    Parameters
    ----------
    own : tuple of tuple of DenseLayer
        For each group of ``layout.groups``, the layers of its ``G`` attributive networks: weights (G, out, in) and
        biases (G, out). The last layer gives means and log-variances (twice the latents of an attribute).
    body : tuple of DenseLayer
        Of the collective network, from the filled row and the mask (D + M) to its last hidden vector.
    head : DenseLayer
        From there to all means, then all log-variances (2 L).
    context : torch.Tensor, shape (C, H), optional
        From there to what the skip path adds to the data decoder's first layer.
    layout : AttributeLayout
    negative_slope : float
    """

    own: tuple[tuple[DenseLayer, ...], ...]
    body: tuple[DenseLayer, ...]
    head: DenseLayer
    context: torch.Tensor | None
    layout: AttributeLayout
    negative_slope: float = 0.01

    @property
    def n_latent(self) -> int:
        """``L``, over all attributes."""
        return self.head.weight.shape[0] // 2

    def to(self, dtype: torch.dtype, device: torch.device) -> FoldedEncoders:
        """Copy with every tensor in one dtype on one device, contiguous."""

        def cast(layer: DenseLayer) -> DenseLayer:
            return layer.to(dtype, device)

        return FoldedEncoders(
            tuple(tuple(map(cast, layers)) for layers in self.own),
            tuple(map(cast, self.body)),
            cast(self.head),
            None if self.context is None else self.context.detach().to(device, dtype).contiguous(),
            self.layout,
            self.negative_slope,
        )
