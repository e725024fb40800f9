"""Packs a model for kernels/importance_impute.py and launches it."""

from __future__ import annotations

import math
from functools import lru_cache, partial
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch

from vsae_fast.cuda.scoring import Scoring
from vsae_fast.cuda.stopping import PARTIAL, run_until_precise
from vsae_fast.cuda.tables import int_table
from vsae_fast.ops.folded_decoders import DenseLayer, FoldedDecoders
from vsae_fast.tensor_core.device import HOPPER, capability_of, check_device, launcher
from vsae_fast.tensor_core.padding import padded, power_of_two

NUMBERS_BLOCK = 64
PART = 64  # outputs of the first data layer at once
MOST_CLASS_SUMS = 8192  # categories times levels, padded, that a program holds in registers
FAR_BELOW_ZERO = -1e30


class _Packer:
    """One run of numbers, and where each of its parts begins."""

    def __init__(self, like: torch.Tensor) -> None:
        self._like, self._size = like, 0
        self._parts: list[torch.Tensor] = []

    def add(self, values: torch.Tensor, shape: tuple[int, ...], fill: float = 0.0) -> int:
        """Append values in the corner of a larger array; returns where it begins."""
        part = self._like.new_full(shape, fill)
        part[tuple(slice(n) for n in values.shape)] = values
        self._parts.append(part.reshape(-1))
        begin, self._size = self._size, self._size + part.numel()
        return begin

    def add_all(self, parts: list[torch.Tensor]) -> int:
        """Append parts as they are, one after the other; returns where the first begins."""
        begin = self._size
        for part in parts:
            self.add(part, tuple(part.shape))
        return begin

    def run(self) -> torch.Tensor:
        """All parts."""
        return torch.cat(self._parts)


class PackedModel(NamedTuple):
    """What a kernel takes of a model: tensors in the order of its arguments, and its compile-time constants."""

    tensors: list[torch.Tensor]
    constants: dict[str, Any]
    decoders: FoldedDecoders
    scoring: Scoring | None
    scored_attribute: torch.Tensor | None
    level_first: torch.Tensor


def pack(decoders: FoldedDecoders, scoring: Scoring | None = None) -> PackedModel:
    """Pad and lay out a model; with ``scoring`` for importance_impute, without for sample_moments.

    Raises
    ------
    ValueError
        More categories and levels than a program can hold.
    """
    layout, output, log_scale = decoders.layout, decoders.output, decoders.log_scale
    packer = _Packer(log_scale)
    device = log_scale.device
    n_latent, n_attributes = decoders.n_latent, layout.n_attributes
    n_hidden = output.weight.shape[1]

    def dense(layer: DenseLayer) -> tuple[int, int, int, int, bool]:
        n_out, n_in = (padded(n) for n in layer.weight.shape)
        weight, bias = packer.add(layer.weight.t(), (n_in, n_out)), packer.add(layer.bias, (n_out,))
        return n_in, n_out, weight, bias, layer.activation

    first, *rest = decoders.data_layers
    width = padded(first.weight.shape[0])
    constants: dict[str, Any] = {"MASK_LAYERS": tuple(map(dense, decoders.mask_layers))}
    constants["FIRST"] = (
        width,
        packer.add(first.weight[:, :n_latent].t(), (padded(n_latent), width)),
        packer.add(first.weight[:, n_latent:].t(), (padded(n_attributes), width)),
        first.activation,
    )
    constants["DATA_LAYERS"] = tuple(map(dense, rest))
    constants["PART"] = min(PART, width)

    spans = list(zip(range(n_attributes), layout.starts, layout.starts[1:], layout.kinds, strict=False))
    numbers = [(column, a) for a, begin, end, kind in spans if kind == "numerical" for column in range(begin, end)]
    block = min(NUMBERS_BLOCK, padded(len(numbers)))
    numbers_padded = max(1, -(-len(numbers) // block)) * block
    number_column, number_attribute = (int_table(tuple(n[i] for n in numbers), numbers_padded, device) for i in (0, 1))
    columns = number_column[: len(numbers)].long()
    height = padded(n_hidden)
    constants["NUMBER_WEIGHT"] = packer.add(output.weight[columns].t(), (height, numbers_padded))
    constants["NUMBER_BIAS"] = packer.add(output.bias[columns], (numbers_padded,))

    categories = [(a, begin, end - begin) for a, begin, end, kind in spans if kind == "categorical"]
    levels = padded(max((c[2] for c in categories), default=1))
    n_padded = power_of_two(len(categories))
    if n_padded * levels > MOST_CLASS_SUMS:
        raise ValueError(
            f"backend='triton' holds {MOST_CLASS_SUMS} sums of classes, and {len(categories)} categories of up to "
            f"{max(c[2] for c in categories)} levels take {n_padded * levels}; use backend='reference'"
        )
    weights, biases = [], []
    for _, begin, own in categories:
        weights.append(log_scale.new_zeros(height, levels))
        weights[-1][:n_hidden, :own] = output.weight[begin : begin + own].t()
        biases.append(log_scale.new_full((levels,), FAR_BELOW_ZERO))
        biases[-1][:own] = output.bias[begin : begin + own]
    constants["LEVEL_WEIGHT"], constants["LEVEL_BIAS"] = packer.add_all(weights), packer.add_all(biases)
    widths = [c[2] for c in categories]
    level_attribute, level_start, level_width, level_first = (
        int_table(tuple(values), n_padded, device)
        for values in (*([c[i] for c in categories] for i in (0, 1, 2)), [0, *accumulate(widths)][:-1])
    )
    constants.update(
        L=n_latent, M=n_attributes, D=layout.n_columns, C=width, NUMBERS=len(numbers),
        CATEGORIES=len(categories), L_PAD=padded(n_latent), M_PAD=padded(n_attributes), H_PAD=height,
        NUMBERS_PAD=numbers_padded, NUMBERS_BLOCK=block, CATEGORIES_PAD=n_padded, LEVELS_PAD=levels,
        SLOPE=decoders.negative_slope,
    )  # fmt: skip
    scored_attribute = None
    if scoring is not None:
        scored_attribute = _add_scoring(packer, scoring, height, constants)
        constants.update(H=n_hidden, LEVELS=sum(widths))
    tensors = [packer.run(), number_column, number_attribute, level_start, level_width, level_attribute]
    return PackedModel(tensors, constants, decoders, scoring, scored_attribute, level_first)


def _add_scoring(packer: _Packer, scoring: Scoring, height: int, constants: dict[str, Any]) -> torch.Tensor:
    """Pack what observed numbers are scored by; returns the attribute of each, padded."""
    attribute = [a for a, (begin, end) in enumerate(pairwise(scoring.starts)) for _ in range(begin, end)]
    n_scored = len(attribute)
    block = min(NUMBERS_BLOCK, padded(n_scored))
    width = max(1, -(-n_scored // block)) * block
    weight, inverse = scoring.weight(), scoring.inverse_scale()
    constants.update(
        SCORED=n_scored, SCORED_PAD=width, SCORED_BLOCK=block, SCORED_WEIGHT=packer.add(weight.t(), (height, width)),
        SCORED_INVERSE=packer.add(inverse, (width,)),
    )  # fmt: skip
    return int_table(tuple(attribute), width, weight.device)


@lru_cache(maxsize=8)
def pack_to_score(decoders: FoldedDecoders) -> PackedModel:
    """Model as importance_impute takes it; kept, as rows come in chunks and packing takes many small copies."""
    return pack(decoders, Scoring(decoders))


def run(
    model: PackedModel,
    mean: torch.Tensor,
    scale: torch.Tensor,
    x: torch.Tensor,
    mask: torch.Tensor,
    noise: torch.Tensor,
    *,
    context: torch.Tensor | None,
    visible_weight: float,
    precision: str = "tf32",
    log_weight: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Launch the kernel; returns imputed, log-evidence, effective size.

    Parameters
    ----------
    model : PackedModel
    mean, scale : torch.Tensor, shape (N, P, L)
    x, mask : torch.Tensor, shapes (N, D) and (N, M)
    noise : torch.Tensor, shape (K, L)
    context : torch.Tensor, shape (N, P, C), optional
    visible_weight : float
    precision : {"tf32", "bfloat16"}
        Of the products.
    log_weight : torch.Tensor, contiguous, shape (N, K), optional
        Takes every sample's, up to a constant of the row.
    """
    n_rows, n_proposals, _ = mean.shape
    imputed = x.new_empty(x.shape)
    evidence, size = (x.new_empty(n_rows) for _ in range(2))
    assert model.scoring is not None
    targets, of_numbers = model.scoring.targets(x, mask)
    _launch(
        model, precision, (mean, scale, x, mask, targets, noise), context, visible_weight,
        (imputed, evidence, size, log_weight, None), first=0, length=noise.shape[0] // n_proposals, n_segments=1,
    )  # fmt: skip
    constant = visible_weight * of_numbers - math.log(noise.shape[0])
    return imputed, evidence.double() + constant, size.double()


def launch_segments(
    model: PackedModel,
    precision: str,
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
    """:func:`vsae_fast.cuda.importance_impute.launch_segments` with Triton's kernel."""
    n_partial = PARTIAL + model.constants["H"] + model.constants["LEVELS"]
    sums = x.new_empty(x.shape[0], n_segments, n_partial)
    _launch(
        model, precision, (mean, scale, x, mask, targets, noise), context, visible_weight,
        (None, None, None, log_weight, sums), first=first, length=length, n_segments=n_segments,
    )  # fmt: skip
    return sums


def _launch(
    model: PackedModel,
    precision: str,
    given: tuple[torch.Tensor, ...],
    context: torch.Tensor | None,
    visible_weight: float,
    results: tuple[torch.Tensor | None, ...],
    *,
    first: int,
    length: int,
    n_segments: int,
) -> None:
    mean, scale, x, mask, targets, noise = given
    n_rows, n_proposals, _ = mean.shape
    if n_rows == 0:
        return
    row_bias = bias_of_rows(model, (n_rows, n_proposals), context)
    inputs = [tensor.contiguous() for tensor in (noise, mean, scale, row_bias, x, mask, targets)]
    sizes = [noise.shape[0] // n_proposals, first, length, n_proposals, float(visible_weight)]
    launcher("importance_impute", **model.constants, **tile(model, precision, capability_of(x.device), length))(
        "importance_impute",
        (n_rows, n_segments),
        [*model.tensors, model.scored_attribute, *inputs, *results, model.level_first, *sizes],
    )


def bias_of_rows(model: PackedModel, shape: tuple[int, ...], context: torch.Tensor | None) -> torch.Tensor:
    """The first data layer's bias of each row with its context in it, padded, ``(*shape, C)``."""
    first = model.decoders.data_layers[0].bias
    first = first if context is None else first + context
    result = first.new_zeros(*shape, model.constants["C"])
    result[..., : first.shape[-1]] = first
    return result


def tile(model: PackedModel, precision: str, capability: tuple[int, int], length: int) -> dict[str, Any]:
    """Samples at once, warps and pipeline stages: what compiles without spills up to a width of 128; not measured.

    On Hopper products take 64 samples at least. Before it bfloat16 packs two weights into a register, so that narrow
    networks have room for more samples, and wide ones spill with as many; and no tile is larger than the ``length`` of
    what is summed up at once, which is a segment where rows may stop early.
    """
    layers = model.constants["DATA_LAYERS"]
    widest = max([model.constants["FIRST"][0], *(layer[1] for layer in layers)])
    block = 64
    if precision == "bfloat16" and capability < HOPPER:
        block = 128 if widest <= 64 else 32
    if capability < HOPPER:
        block = min(block, padded(length))
    return {
        "BLOCK": block,
        "BFLOAT16": precision == "bfloat16",
        "num_warps": 8,
        "num_stages": 3 if widest <= 128 else 1,
    }


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
    precision: str,
    tolerance: float,
    log_weight: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """:func:`run` on the device of ``x``, and the samples spent."""
    check_device(x.device)
    model = pack_to_score(decoders)
    if tolerance > 0:
        assert model.scoring is not None
        return run_until_precise(
            partial(launch_segments, model, precision), model.scoring, decoders, mean, scale, x, mask, noise,
            context=context, visible_weight=visible_weight, tolerance=tolerance, log_weight=log_weight,
        )  # fmt: skip
    results = run(
        model, mean, scale, x, mask, noise, context=context, visible_weight=visible_weight, precision=precision,
        log_weight=log_weight,
    )  # fmt: skip
    return *results, torch.full(x.shape[:1], noise.shape[0], dtype=torch.int32, device=x.device)
