"""Shapes and parameters of csrc/cuda/importance_impute.cu for one model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

THREADS, MOST_OUTPUTS, CHUNK = 128, 64, 16  # kThreads, kMostOutputs and kChunk of csrc/cuda/dense.h
TILES = (64, 32, 16, 8)  # samples at once; the more, the less often weights are read ...
SHARED_BYTES = 48 * 1024  # what every device since Pascal gives a block
THREE_BLOCKS = (32, 32 * 1024)  # ... but down to this many, rather have three blocks in 96 KiB (not measured)
BLOCKS_PER_PROCESSOR = 8  # wanted at least: where rows are fewer, blocks share a row's samples
PARTIAL = 3  # floats of a run of samples beside its sums


@dataclass(frozen=True)
class LayerShape:
    """One dense layer: inputs, outputs, LeakyReLU or none."""

    n_in: int
    n_out: int
    active: bool


@dataclass(frozen=True)
class ModelShape:
    """What the kernel is compiled for.

    Attributes
    ----------
    mask_layers, data_layers : tuple of LayerShape
        Of the mask decoder, and of the data decoder without its output layer.
    starts, kinds : tuple of int
        Columns of the attributes and their kinds, as :class:`vsae_fast.ops.layout.AttributeLayout` gives them.
    negative_slope : float
    """

    mask_layers: tuple[LayerShape, ...]
    data_layers: tuple[LayerShape, ...]
    starts: tuple[int, ...]
    kinds: tuple[int, ...]
    negative_slope: float

    @property
    def n_latent(self) -> int:
        """``L``."""
        return self.mask_layers[0].n_in

    @property
    def n_hidden(self) -> int:
        """Width of the data decoder's last hidden layer."""
        return self.data_layers[-1].n_out

    @property
    def n_numbers(self) -> int:
        """Columns of numerical attributes."""
        return len(self.columns(0))

    @property
    def n_logits(self) -> int:
        """Columns of categorical attributes."""
        return len(self.columns(1))

    def columns(self, kind: int) -> list[int]:
        """Columns of all attributes of a kind, in order."""
        spans = zip(self.starts, self.starts[1:], self.kinds, strict=False)
        return [column for begin, end, own in spans if own == kind for column in range(begin, end)]

    @cached_property
    def firsts(self) -> tuple[int, ...]:
        """Position of each attribute's first column among the columns of its kind."""
        seen = {0: 0, 1: 0}
        result = []
        for begin, end, kind in zip(self.starts, self.starts[1:], self.kinds, strict=False):
            result.append(seen[kind])
            seen[kind] += end - begin
        return tuple(result)

    @property
    def n_partial(self) -> int:
        """Floats that a run of samples leaves."""
        return PARTIAL + self.n_hidden + self.n_logits

    def shared_bytes(self, tile: int) -> int:
        """Shared memory of a block; the sum of the constants at the top of the kernel."""
        widths = [0, 0]
        for i, layer in enumerate(self.mask_layers[:-1]):
            widths[i % 2] = max(widths[i % 2], layer.n_out)
        for i, layer in enumerate(self.data_layers):
            widths[i % 2] = max(widths[i % 2], layer.n_out)
        free = len(self.data_layers) % 2
        numbers = _outputs_at_once(tile, self.n_numbers) if self.n_numbers else 0
        widths[free] = max(widths[free], self.n_logits, numbers)
        n_attributes = len(self.kinds)
        floats = (self.n_latent + n_attributes + sum(widths)) * tile + CHUNK * MOST_OUTPUTS
        floats += _rounded(self.data_layers[0].n_out) + 2 * _rounded(self.n_latent) + 3 * THREADS + tile
        floats += _rounded(self.n_numbers) + 2 * _rounded(n_attributes)
        return 4 * (floats + _rounded(self.n_hidden + self.n_logits))

    @cached_property
    def tile(self) -> int:
        """Samples at once.

        Raises
        ------
        ValueError
            The activations of the smallest tile do not fit the shared memory that every device has.
        """
        fewest, limit = THREE_BLOCKS
        for tile in TILES:
            if tile >= fewest and self.shared_bytes(tile) <= limit:
                return tile
        for tile in TILES:
            if self.shared_bytes(tile) <= SHARED_BYTES:
                return tile
        raise ValueError(
            f"backend='cuda' keeps {TILES[-1]} samples of a row in {SHARED_BYTES // 1024} KiB of shared memory, and "
            f"this model (widths {[layer.n_out for layer in self.data_layers]}, {self.n_logits} levels in all) takes "
            f"{self.shared_bytes(TILES[-1]) // 1024} KiB; use backend='reference'"
        )

    def prelude(self) -> str:
        """C++ text that stands in front of the kernel: the shapes as constants."""
        offsets = self._offsets()
        lines = [
            '#include "cuda/dense.h"',
            "namespace vsae::model {",
            f"constexpr int kTile = {self.tile};",
            f"constexpr int kLatent = {self.n_latent};",
            f"constexpr int kAttributes = {len(self.kinds)};",
            f"constexpr int kColumns = {self.starts[-1]};",
            f"constexpr int kNumbers = {self.n_numbers};",
            f"constexpr int kLogits = {self.n_logits};",
            f"constexpr float kSlope = {float(self.negative_slope)!r}f;",
        ]
        for name, layers in (("kMaskLayers", self.mask_layers), ("kDataLayers", self.data_layers)):
            entries = ", ".join(
                f"{{{layer.n_in}, {layer.n_out}, {offsets.pop(0)}, {offsets.pop(0)}, {str(layer.active).lower()}}}"
                for layer in layers
            )
            lines.append(f"constexpr Layer {name}[] = {{{entries}}};")
        for name in ("kNumberWeight", "kNumberBias", "kLogitWeight", "kLogitBias"):
            lines.append(f"constexpr int {name} = {offsets.pop(0)};")
        return "\n".join([*lines, "}", ""])

    def _offsets(self) -> list[int]:
        """Where weight and bias of each layer begin, then those of the numbers and of the logits."""
        sizes = []
        for layer in (*self.mask_layers, *self.data_layers):
            sizes += [layer.n_in * layer.n_out, layer.n_out]
        for n in (self.n_numbers, self.n_logits):
            sizes += [self.n_hidden * n, n]
        offsets = [0]
        for size in sizes:
            offsets.append(offsets[-1] + size)
        return offsets

    def parameters(
        self,
        weights: list[torch.Tensor],
        biases: list[torch.Tensor],
        output_weight: torch.Tensor,
        output_bias: torch.Tensor,
    ) -> torch.Tensor:
        """All weights (in, out) and biases in one run, in the order of :meth:`prelude`.

        Parameters
        ----------
        weights, biases : list of torch.Tensor
            Of the mask decoder's layers, then of the data decoder's: (out, in) and (out,).
        output_weight, output_bias : torch.Tensor, shapes (D, H) and (D,)
        """
        parts = []
        for weight, bias in zip(weights, biases, strict=True):
            parts += [weight.t().reshape(-1), bias]
        for kind in (0, 1):
            columns = torch.tensor(self.columns(kind), dtype=torch.int64, device=output_weight.device)
            parts += [output_weight[columns].t().reshape(-1), output_bias[columns]]
        return torch.cat(parts)


def _rounded(floats: int) -> int:
    return (floats + 3) // 4 * 4


def _outputs_at_once(tile: int, n_out: int) -> int:
    groups = THREADS // (tile // 4)
    rows = 1
    while rows * groups < n_out and rows * groups < MOST_OUTPUTS:
        rows *= 2
    return rows * groups


Launch = Callable[[str, tuple[int, int], list["int | float | torch.Tensor | None"]], None]


def run(
    launch: Launch,
    shape: ModelShape,
    n_splits: int,
    *,
    mean: torch.Tensor,
    scale: torch.Tensor,
    x: torch.Tensor,
    mask: torch.Tensor,
    noise: torch.Tensor,
    context: torch.Tensor | None,
    parameters: torch.Tensor,
    log_scale: torch.Tensor,
    visible_weight: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Launch the kernel, and the merging one where rows are split; returns imputed, log-evidence, effective size.

    Parameters
    ----------
    launch : callable
        ``launch(kernel, (blocks_x, blocks_y), arguments)`` with int, float and tensor arguments as the kernel lists
        them.
    shape : ModelShape
    n_splits : int
        Blocks that share a row's samples.
    mean, scale : torch.Tensor, shape (N, P, L)
    x, mask : torch.Tensor, shapes (N, D) and (N, M)
    noise : torch.Tensor, shape (K, L)
    context : torch.Tensor, shape (N, P, C), optional
    parameters : torch.Tensor
        :meth:`ModelShape.parameters`.
    log_scale : torch.Tensor, shape (D,)
    visible_weight : float
    """
    n_rows, n_proposals, _ = mean.shape
    n_samples = noise.shape[0]
    imputed = x.new_empty(x.shape)
    log_evidence, effective_size = (x.new_empty(n_rows, dtype=torch.float64) for _ in range(2))
    if n_rows == 0:
        return imputed, log_evidence, effective_size
    n_splits = max(1, min(n_splits, n_proposals * -(-(n_samples // n_proposals) // shape.tile)))
    partial = x.new_empty(n_rows, n_splits, shape.n_partial) if n_splits > 1 else None

    def table(values: Sequence[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int32, device=x.device)

    numbers = table(shape.columns(0))
    model = [parameters, log_scale[numbers.long()].contiguous(), numbers]
    model += [table(shape.starts), table(shape.kinds), table(shape.firsts)]
    rows = [x.contiguous(), mask.contiguous()]
    results = [imputed, log_evidence, effective_size, partial]
    proposals = [mean.contiguous(), scale.contiguous(), None if context is None else context.contiguous()]
    launch(
        "importance_impute",
        (n_rows, n_splits),
        [n_rows, n_samples, n_proposals, n_splits, float(visible_weight), *model, noise.t().contiguous(), *proposals,
         *rows, *results],
    )  # fmt: skip
    if partial is not None:
        launch(
            "merge_importance_impute",
            (n_rows, 1),
            [n_samples, n_splits, float(visible_weight), *model, *rows, *results],
        )
    return imputed, log_evidence, effective_size
