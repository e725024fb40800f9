"""Shapes and parameters of csrc/cuda/importance_impute.cu and of its decoders for one model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property, lru_cache, partial
from itertools import accumulate

import torch

from vsae_fast.cuda.compiler import Launch, load
from vsae_fast.cuda.dense import CHUNK, MOST_OUTPUTS, SHARED_BYTES, THREADS, TILES, choose_tile
from vsae_fast.cuda.scoring import Scoring
from vsae_fast.cuda.stopping import PARTIAL, run_until_precise
from vsae_fast.cuda.tables import columns_of_kind, int_table
from vsae_fast.ops.folded_decoders import DenseLayer, FoldedDecoders
from vsae_fast.ops.layout import KIND_NAMES, AttributeLayout
from vsae_fast.ops.stopping import SEGMENT

BLOCKS_PER_PROCESSOR = 8  # wanted at least: where rows are fewer, blocks share a row's samples


class CudaDecoders(ABC):
    """Folded decoders as kernels are compiled for them.

    Parameters
    ----------
    decoders : FoldedDecoders
    most_samples : int
        Never more at once.
    """

    def __init__(self, decoders: FoldedDecoders, most_samples: int = TILES[0]) -> None:
        self.decoders = decoders
        self.most_samples = most_samples
        device = decoders.log_scale.device
        self._numbers, self._logits = (columns_of_kind(decoders.layout, kind, device) for kind in KIND_NAMES)

    @property
    def n_numbers(self) -> int:
        """Columns of numerical attributes."""
        return len(self._numbers)

    @property
    def n_logits(self) -> int:
        """Columns of categorical attributes."""
        return len(self._logits)

    def tables(self) -> tuple[torch.Tensor, ...]:
        """Columns of the numbers; first column, kind and first place among its kind of each attribute, int32."""
        return _tables(self.decoders.layout, self.decoders.log_scale.device)

    @abstractmethod
    def shared_bytes(self, tile: int) -> int:
        """Shared memory of a block; the sum of the constants at the top of the kernel."""

    def decoder_floats(self, tile: int) -> int:
        """What both decoders take of it, up to DecoderPlace::kEnd in csrc/cuda/decoders.h."""
        n_latent, n_attributes = self.decoders.n_latent, self.decoders.layout.n_attributes
        floats = (n_latent + n_attributes + self.buffer_rows(tile)) * tile + CHUNK * MOST_OUTPUTS
        return floats + rounded(self.decoders.data_layers[0].weight.shape[0]) + 2 * rounded(n_latent)

    def buffer_rows(self, tile: int) -> int:
        """Rows of both buffers that layers write to, as csrc/cuda/decoders.h counts them."""
        mask_layers, data_layers = self._layers()
        widths = [0, 0]
        for layers in (mask_layers[:-1], data_layers):
            for i, layer in enumerate(layers):
                widths[i % 2] = max(widths[i % 2], layer.weight.shape[0])
        free = len(data_layers) % 2
        numbers = _outputs_at_once(tile, self.n_numbers) if self.n_numbers else 0
        widths[free] = max(widths[free], self.n_logits, numbers)
        return sum(widths)

    @cached_property
    def tile(self) -> int:
        """Samples at once.

        Raises
        ------
        ValueError
            The activations of the smallest tile do not fit the shared memory that every device has.
        """
        tile = choose_tile(self.shared_bytes, self.most_samples)
        if tile is not None:
            return tile
        raise ValueError(
            f"backend='cuda' keeps {TILES[-1]} samples of a row in {SHARED_BYTES // 1024} KiB of shared memory, and "
            f"this model (widths {[la.bias.shape[0] for la in self.decoders.data_layers]}, {len(self._logits)} levels) "
            f"takes {self.shared_bytes(TILES[-1]) // 1024} KiB; use backend='reference'"
        )

    def prelude(self) -> str:
        """C++ text that stands in front of the kernel: the shapes as constants."""
        layout = self.decoders.layout
        lines = [
            '#include "cuda/dense.h"',
            "namespace vsae::model {",
            f"constexpr int kTile = {self.tile};",
            f"constexpr int kLatent = {self.decoders.n_latent};",
            f"constexpr int kAttributes = {layout.n_attributes};",
            f"constexpr int kColumns = {layout.n_columns};",
            f"constexpr int kNumbers = {len(self._numbers)};",
            f"constexpr int kLogits = {len(self._logits)};",
            f"constexpr float kSlope = {float(self.decoders.negative_slope)!r}f;",
        ]
        offsets = [0, *accumulate(part.numel() for part in self._parts())]
        for name, layers in zip(("kMaskLayers", "kDataLayers"), self._layers(), strict=True):
            entries = []
            for layer in layers:
                n_out, n_in = layer.weight.shape
                active = str(layer.activation).lower()
                entries.append(f"{{{n_in}, {n_out}, {offsets.pop(0)}, {offsets.pop(0)}, {active}}}")
            lines.append(f"constexpr Layer {name}[] = {{{', '.join(entries)}}};")
        for name in ("kNumberWeight", "kNumberBias", "kLogitWeight", "kLogitBias"):
            lines.append(f"constexpr int {name} = {offsets.pop(0)};")
        lines += [f"constexpr int {name} = {value};" for name, value in self._further(offsets.pop(0)).items()]
        return "\n".join([*lines, "}", ""])

    def _further(self, offset: int) -> dict[str, int]:
        """Constants of one kernel; ``offset`` is where parameters of its own begin."""
        del offset
        return {}

    @cached_property
    def parameters(self) -> torch.Tensor:
        """All weights (in, out) and biases in one run, in the order of :meth:`prelude`."""
        return torch.cat([part.reshape(-1) for part in self._parts()])

    def _layers(self) -> tuple[tuple[DenseLayer, ...], tuple[DenseLayer, ...]]:
        return self.decoders.mask_layers, self.decoders.data_layers

    def _parts(self) -> list[torch.Tensor]:
        parts = [part for layers in self._layers() for la in layers for part in (la.weight.t(), la.bias)]
        output = self.decoders.output
        for columns in (self._numbers, self._logits):
            parts += [output.weight[columns].t(), output.bias[columns]]
        return parts


class CudaModel(CudaDecoders):
    """Folded decoders as importance_impute is compiled for them."""

    @cached_property
    def scoring(self) -> Scoring:
        """What observed numbers are scored by."""
        return Scoring(self.decoders)

    @cached_property
    def scored(self) -> torch.Tensor:
        """First scored number of each attribute, and how many there are, int32."""
        starts = tuple(self.scoring.starts)
        return int_table(starts, len(starts), self.decoders.log_scale.device)

    @property
    def n_partial(self) -> int:
        """Floats that a run of samples leaves."""
        return PARTIAL + self.decoders.output.weight.shape[1] + self.n_logits

    def shared_bytes(self, tile: int) -> int:
        """Shared memory of a block; the sum of the constants at the top of the kernel."""
        floats = self.decoder_floats(tile) + 3 * THREADS + tile
        floats += rounded(self.scoring.starts[-1]) + 2 * rounded(self.decoders.layout.n_attributes)
        return 4 * (floats + rounded(self.decoders.data_layers[-1].weight.shape[0] + self.n_logits))

    def _further(self, offset: int) -> dict[str, int]:
        n_scored, n_hidden = self.scoring.starts[-1], self.decoders.output.weight.shape[1]
        return {"kScored": n_scored, "kScoredWeight": offset, "kScoredInverseScale": offset + n_scored * n_hidden}

    def _parts(self) -> list[torch.Tensor]:
        return [*super()._parts(), self.scoring.weight().t(), self.scoring.inverse_scale()]


@lru_cache(maxsize=64)
def _tables(layout: AttributeLayout, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Kept for the next call: a copy to the device takes longer than many a kernel."""
    seen, firsts = dict.fromkeys(KIND_NAMES, 0), []
    for kind, width in zip(layout.kinds, layout.widths, strict=True):
        firsts.append(seen[kind])
        seen[kind] += width
    tables = (
        torch.tensor(table, dtype=torch.int32, device=device) for table in (layout.starts, layout.kind_codes, firsts)
    )
    return columns_of_kind(layout, "numerical", device).int(), *tables


def rounded(floats: int) -> int:
    """Floats in whole groups of four."""
    return (floats + 3) // 4 * 4


def _outputs_at_once(tile: int, n_out: int) -> int:
    groups = THREADS // (tile // 4)
    rows = 1
    while rows * groups < n_out and rows * groups < MOST_OUTPUTS:
        rows *= 2
    return rows * groups


def run(
    launch: Launch,
    model: CudaModel,
    n_splits: int,
    mean: torch.Tensor,
    scale: torch.Tensor,
    x: torch.Tensor,
    mask: torch.Tensor,
    noise: torch.Tensor,
    *,
    context: torch.Tensor | None,
    visible_weight: float,
    log_weight: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Launch the kernel, and the merging one where rows are split; returns imputed, log-evidence, effective size.

    Parameters
    ----------
    launch : callable
        ``launch(kernel, (blocks_x, blocks_y), arguments)`` with int, float and tensor arguments as the kernel lists
        them.
    model : CudaModel
    n_splits : int
        Blocks that share a row's samples.
    mean, scale : torch.Tensor, shape (N, P, L)
    x, mask : torch.Tensor, shapes (N, D) and (N, M)
    noise : torch.Tensor, shape (K, L)
    context : torch.Tensor, shape (N, P, C), optional
    visible_weight : float
    log_weight : torch.Tensor, contiguous, shape (N, K), optional
        Takes every sample's, up to a constant of the row.
    """
    n_rows, n_proposals, _ = mean.shape
    n_samples = noise.shape[0]
    imputed = x.new_empty(x.shape)
    log_evidence, effective_size = (x.new_empty(n_rows, dtype=torch.float64) for _ in range(2))
    n_splits = max(1, min(n_splits, n_proposals * -(-(n_samples // n_proposals) // model.tile)))
    sums = x.new_empty(n_rows, n_splits, model.n_partial) if n_splits > 1 else None
    x, mask = x.contiguous(), mask.contiguous()
    targets, constant = model.scoring.targets(x, mask)
    results = [imputed, log_evidence, effective_size]
    _launch(
        launch, model, (mean, scale, x, mask, targets, noise), context, visible_weight, [*results, sums, log_weight],
        n_splits=n_splits,
    )  # fmt: skip
    if sums is not None and n_rows:
        _, *attributes = model.tables()
        tensors = [model.parameters, *attributes, x, mask, *results, sums]
        launch("merge_importance_impute", (n_rows, 1), [n_samples, n_splits, *tensors])
    return imputed, log_evidence + visible_weight * constant, effective_size


def _launch(
    launch: Launch,
    model: CudaModel,
    given: tuple[torch.Tensor, ...],
    context: torch.Tensor | None,
    visible_weight: float,
    results: list[torch.Tensor | None],
    *,
    n_splits: int,
    first: int = 0,
    segment: int = 0,
) -> None:
    """Launch the kernel; splits are segments of the samples from ``first`` on, or share all where ``segment`` is 0."""
    mean, scale, x, mask, targets, noise = given
    n_rows, n_proposals, _ = mean.shape
    if n_rows == 0:
        return
    _, *attributes = model.tables()
    sizes = [n_rows, noise.shape[0], n_proposals, n_splits, first, segment, float(visible_weight)]
    inputs = [None if t is None else t.contiguous() for t in (noise.t(), mean, scale, context, x, mask)]
    constants = [model.parameters, model.scored, targets.contiguous(), *attributes]
    launch("importance_impute", (n_rows, n_splits), [*sizes, *constants, *inputs, *results])


def launch_segments(
    launch: Launch,
    model: CudaModel,
    mean: torch.Tensor,
    scale: torch.Tensor,
    x: torch.Tensor,
    mask: torch.Tensor,
    targets: torch.Tensor,
    noise: torch.Tensor,
    *,
    context: torch.Tensor | None,
    visible_weight: float,
    first: int,
    length: int,
    n_segments: int,
    log_weight: torch.Tensor | None,
) -> torch.Tensor:
    """Launch the kernel over segments of the samples.

    Parameters
    ----------
    launch, model, mean, scale, x, mask, noise, context, visible_weight, log_weight
        See :func:`run`.
    targets : torch.Tensor, shape (N, scored)
        Of :meth:`vsae_fast.cuda.scoring.Scoring.targets`.
    first : int
        Sample of each proposal with which the first segment begins.
    length, n_segments : int
        Samples of each proposal in a segment, and how many segments.

    Returns
    -------
    torch.Tensor, shape (N, n_segments, partial)
        What log-weights count relative to, sums of weights and of their squares, weighted hidden vector, weighted
        probabilities.
    """
    sums = x.new_empty(x.shape[0], n_segments, model.n_partial)
    _launch(
        launch, model, (mean, scale, x, mask, targets, noise), context, visible_weight,
        [None, None, None, sums, log_weight], n_splits=n_segments, first=first, segment=length,
    )  # fmt: skip
    return sums


_model = lru_cache(maxsize=8)(CudaModel)  # rows come in chunks, and its parameters are many small copies


def importance_impute(
    mean: torch.Tensor,
    scale: torch.Tensor,
    x: torch.Tensor,
    mask: torch.Tensor,
    noise: torch.Tensor,
    decoders: FoldedDecoders,
    *,
    context: torch.Tensor | None,
    visible_weight: float,
    tolerance: float = 0.0,
    log_weight: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """:func:`run` on the device of ``x``, compiled for it and the model if need be; and the samples spent."""
    # Where rows may stop early, a block sums up a segment: a larger tile would be empty for the most part.
    model = _model(decoders, SEGMENT if tolerance > 0 else TILES[0])
    module = load("importance_impute", model.prelude(), x.device, THREADS)
    if tolerance > 0:
        return run_until_precise(
            partial(launch_segments, module.launch, model), model.scoring, decoders, mean, scale, x, mask, noise,
            context=context, visible_weight=visible_weight, tolerance=tolerance, log_weight=log_weight,
        )  # fmt: skip
    n_processors = torch.cuda.get_device_properties(x.device).multi_processor_count
    n_splits = BLOCKS_PER_PROCESSOR * n_processors // max(x.shape[0], 1)
    results = run(
        module.launch, model, n_splits, mean, scale, x, mask, noise, context=context, visible_weight=visible_weight,
        log_weight=log_weight,
    )  # fmt: skip
    return *results, torch.full(x.shape[:1], noise.shape[0], dtype=torch.int32, device=x.device)
