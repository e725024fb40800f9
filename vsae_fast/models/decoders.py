"""Mask decoder and data decoder (appendix C.2), and how both fold into dense layers for the sampling kernels."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from vsae_fast.models.batch_norm import fold_norm, norm_factor
from vsae_fast.models.config import NetworkConfig
from vsae_fast.ops.folded_decoders import DenseLayer, FoldedDecoders
from vsae_fast.ops.layout import AttributeLayout


class Decoder(nn.Module):
    """Linear, BatchNorm, LeakyReLU, then further Linears with or without activation, then the output layer."""

    def __init__(
        self, n_in: int, hidden: tuple[int, ...], n_out: int, negative_slope: float, linear_tail: bool = False
    ) -> None:
        super().__init__()
        sizes = (n_in, *hidden, n_out)
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.norm = nn.BatchNorm1d(hidden[0])
        self.negative_slope = negative_slope
        self.activations = [i == 0 or not linear_tail for i in range(len(hidden))] + [False]

    def forward(self, h: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """Map (..., n_in) to (..., n_out); ``context`` (..., hidden[0]) is added before the batch normalisation."""
        output: torch.Tensor = self.linears[-1](self.last_hidden(h, context))
        return output

    def last_hidden(self, h: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """What the output layer is fed, (..., hidden[-1])."""
        for i, (linear, activation) in enumerate(zip(self.linears[:-1], self.activations[:-1], strict=True)):
            h = linear(h)
            if i == 0:
                if context is not None:
                    h = h + context
                h = self.norm(h.reshape(-1, h.shape[-1])).reshape(h.shape)
            if activation:
                h = functional.leaky_relu(h, self.negative_slope)
        return h

    @torch.no_grad()
    def fold(self) -> tuple[DenseLayer, ...]:
        """Evaluation-mode layers in float64: batch normalisation inside the first, linear neighbours multiplied out."""
        folded: list[DenseLayer] = []
        for i, (module, activation) in enumerate(zip(self.linears, self.activations, strict=True)):
            if i == 0:
                weight, bias = fold_norm(module, self.norm)
            else:
                weight, bias = module.get_parameter("weight").double(), module.get_parameter("bias").double()
            if folded and not folded[-1].activation:
                before = folded.pop()
                weight, bias = weight @ before.weight, weight @ before.bias + bias
            folded.append(DenseLayer(weight, bias, activation))
        return tuple(folded)


class DecodersWithContext(nn.Module):
    """What decoders have in common: a context of the row in the data decoder's first layer, and learned scales.

    Each attribute has one learned standard deviation, shared by its columns and never below ``config.min_scale``.
    """

    data: Decoder
    context: nn.Linear | None
    mask_constant: float  # to be added to every log p(m | z) so that it is 0 where there is no mask decoder

    def __init__(self, layout: AttributeLayout, config: NetworkConfig) -> None:
        super().__init__()
        self.layout = layout
        self.min_scale = config.min_scale
        self.negative_slope = config.negative_slope
        self.register_buffer("column_attribute", layout.column_attribute(torch.device("cpu")), persistent=False)
        self.raw_scale = nn.Parameter(torch.zeros(layout.n_attributes))

    def log_scale(self) -> torch.Tensor:
        """Log standard deviation of each numerical column, shape (D,)."""
        raw = torch.log(self.raw_scale.exp() + self.min_scale)
        return raw[self.get_buffer("column_attribute")]

    @torch.no_grad()
    def folded_context(self) -> torch.Tensor | None:
        """What maps the context vector to its share in the folded data decoder's first layer, float64."""
        if self.context is None:
            return None
        return norm_factor(self.data.norm).unsqueeze(1) * self.context.weight.double()

    @torch.no_grad()
    def fold_context(self, hidden: torch.Tensor) -> torch.Tensor | None:
        """What the context vector (N, H) adds to the folded data decoder's first layer, (N, hidden[0])."""
        weight = self.folded_context()
        return None if weight is None else functional.linear(hidden, weight.to(hidden.dtype))

    def _context(self, hidden: torch.Tensor | None) -> torch.Tensor | None:
        return self.context(hidden) if self.context is not None and hidden is not None else None


class Decoders(DecodersWithContext):
    """Mask decoder first; its probabilities are an extra input of the data decoder."""

    mask_constant = 0.0

    def __init__(self, layout: AttributeLayout, config: NetworkConfig) -> None:
        super().__init__(layout, config)
        n_latent = layout.n_attributes * config.latent_per_attribute
        self.mask = Decoder(n_latent, config.mask_hidden, layout.n_attributes, config.negative_slope)
        self.data = Decoder(
            n_latent + layout.n_attributes,
            config.data_hidden,
            layout.n_columns,
            config.negative_slope,
            config.linear_tail,
        )
        self.context = (
            nn.Linear(config.collective_hidden[-1], config.data_hidden[0], bias=False) if config.skip else None
        )

    def forward(self, z: torch.Tensor, hidden: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Map z (..., L) and the collective hidden vector (N, H) to mask logits (..., M) and outputs (..., D)."""
        mask_logits = self.mask(z)
        return mask_logits, self.data(torch.cat([z, mask_logits.sigmoid()], -1), self._context(hidden))

    def fold(self) -> FoldedDecoders:
        """Both decoders in evaluation mode as dense layers, float64."""
        *hidden, output = self.data.fold()
        return FoldedDecoders(
            self.mask.fold(),
            tuple(hidden),
            output,
            self.log_scale().detach().double(),
            self.layout,
            self.negative_slope,
        )


class MaskFreeDecoders(DecodersWithContext):
    """The data decoder alone, for models that do not model the mask.

    The sampling ops take a mask decoder all the same: one whose logits are 0 multiplies every weight by the same
    ``2**-M``, which ``mask_constant`` takes back out of bounds and evidence.

    Parameters
    ----------
    layout : AttributeLayout
    config : NetworkConfig
    n_context : int
        Width of a context vector of the row; 0 for none.
    """

    def __init__(self, layout: AttributeLayout, config: NetworkConfig, n_context: int = 0) -> None:
        super().__init__(layout, config)
        self.mask_constant = layout.n_attributes * math.log(2.0)
        n_latent = layout.n_attributes * config.latent_per_attribute
        self.data = Decoder(n_latent, config.data_hidden, layout.n_columns, config.negative_slope, config.linear_tail)
        self.context = nn.Linear(n_context, config.data_hidden[0], bias=False) if n_context else None

    def forward(self, z: torch.Tensor, hidden: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Map z (..., L) and the context vector (N, n_context) to logits of 0 (..., M) and outputs (..., D)."""
        output = self.data(z, self._context(hidden))
        return output.new_zeros(*z.shape[:-1], self.layout.n_attributes), output

    def fold(self) -> FoldedDecoders:
        """Both decoders in evaluation mode as dense layers, float64; the mask's weigh nothing anywhere."""
        first, *hidden, output = self.data.fold()
        n_attributes, n_latent = self.layout.n_attributes, first.weight.shape[1]
        first = DenseLayer(functional.pad(first.weight, (0, n_attributes)), first.bias, first.activation)
        zeros = first.weight.new_zeros
        return FoldedDecoders(
            (DenseLayer(zeros(n_attributes, n_latent), zeros(n_attributes), activation=False),),
            (first, *hidden),
            output,
            self.log_scale().detach().double(),
            self.layout,
            self.negative_slope,
        )
