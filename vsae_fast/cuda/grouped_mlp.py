"""Launches of csrc/cuda/grouped_mlp.cu, layer by layer, and the shapes that it is compiled for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch

from vsae_fast.cuda.add_up import add_up
from vsae_fast.cuda.compiler import Launch, load
from vsae_fast.cuda.dense import CHUNK, MOST_OUTPUTS, SHARED_BYTES, THREADS, TILES

STATISTICS = 4  # numbers that a batch norm keeps for each column, and a tile for their sums
ENOUGH_BLOCKS = 256  # rather have so many blocks than large tiles (not measured)

Tensors = list[torch.Tensor]


@dataclass(frozen=True)
class Layer:
    """What the kernels are compiled for.

    Parameters
    ----------
    n_in, n_out : int
    normalised : bool
        Whether the input is a hidden layer, not x.
    head : bool
    tile : int
        Rows at once.
    """

    n_in: int
    n_out: int
    normalised: bool
    head: bool
    tile: int

    def shared_bytes(self) -> int:
        """Shared memory of a block of the kernel that takes most; the arrays at its top."""
        forward = self.n_in + self.n_out
        backward = self.n_out + 2 * MOST_OUTPUTS
        return 4 * (max(forward, backward) * self.tile + CHUNK * MOST_OUTPUTS)

    def prelude(self) -> str:
        """C++ text that stands in front of the kernels: the shape as constants."""
        lines = [
            '#include "cuda/dense.h"',
            "namespace vsae::model {",
            f"constexpr int kTile = {self.tile};",
            f"constexpr int kIn = {self.n_in};",
            f"constexpr int kOut = {self.n_out};",
            f"constexpr bool kNormalised = {str(self.normalised).lower()};",
            f"constexpr bool kHead = {str(self.head).lower()};",
        ]
        return "\n".join([*lines, "}", ""])


class Kernels(NamedTuple):
    """Kernels of one language, and how rows are cut for them.

    Attributes
    ----------
    layers_of : callable
        Layers of networks of some widths (inputs, hidden, outputs), with so many rows and so many networks.
    launch_of : callable
        Launch function of a layer's kernels, as :func:`vsae_fast.cuda.importance_impute.run` takes one; of ``add_up``
        for None.
    """

    layers_of: Callable[[list[int], int, int], list[Layer]]
    launch_of: Callable[[Layer | None], Launch]


def layers_with(sizes: list[int], tile: int) -> list[Layer]:
    """Layers from the first to the head, all with one tile."""
    last = len(sizes) - 2
    return [Layer(a, b, i > 0, i == last, tile) for i, (a, b) in enumerate(pairwise(sizes))]


def few_enough_blocks(tiles: Sequence[int], n_rows: int, n_groups: int) -> int:
    """The first of ascending tiles that makes few enough blocks, the last where none does."""
    enough = (tile for tile in tiles if -(-n_rows // tile) * n_groups <= ENOUGH_BLOCKS)
    return next(enough, tiles[-1])


def layers_of(sizes: list[int], n_rows: int, n_groups: int) -> list[Layer]:
    """Layers whose tile is the smallest that makes few enough blocks, if it fits.

    Raises
    ------
    ValueError
        The activations of the smallest tile do not fit the shared memory that every device has.
    """

    def taken(tile: int) -> int:
        return max(layer.shared_bytes() for layer in layers_with(sizes, tile))

    fitting = [tile for tile in sorted(TILES) if taken(tile) <= SHARED_BYTES]
    if not fitting:
        raise ValueError(
            f"backend='cuda' keeps {min(TILES)} rows in {SHARED_BYTES // 1024} KiB of shared memory, and networks of "
            f"widths {sizes} take {taken(min(TILES)) // 1024} KiB; use backend='reference'"
        )
    return layers_with(sizes, few_enough_blocks(fitting, n_rows, n_groups))


def saved_floats(n_rows: int, n_groups: int, sizes: list[int]) -> int:
    """What the hidden layers leave for the way back."""
    return n_groups * (n_rows + STATISTICS) * sum(sizes[1:-1])


def _saved(
    saved: torch.Tensor, n_rows: int, n_groups: int, sizes: list[int]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Linear outputs (G, N, H) and statistics (G, 4, H) of each hidden layer."""
    parts = saved.split([n_groups * n * width for width in sizes[1:-1] for n in (n_rows, STATISTICS)])
    return [
        (linear.view(n_groups, n_rows, width), statistics.view(n_groups, STATISTICS, width))
        for linear, statistics, width in zip(parts[::2], parts[1::2], sizes[1:-1], strict=True)
    ]


def _contiguous(tensors: Tensors) -> Tensors:
    return [tensor.contiguous() for tensor in tensors]


def _below(
    layer: int, hidden: list[tuple[torch.Tensor, torch.Tensor]], gamma: Tensors, beta: Tensors
) -> list[torch.Tensor | None]:
    """What a layer reads of the hidden layer below it."""
    return [None] * 4 if layer == 0 else [*hidden[layer - 1], gamma[layer - 1], beta[layer - 1]]


def run(
    kernels: Kernels,
    x: torch.Tensor,
    mask: torch.Tensor,
    weight: Tensors,
    bias: Tensors,
    gamma: Tensors,
    beta: Tensors,
    running_mean: Tensors,
    running_var: Tensors,
    training: bool,
    negative_slope: float,
) -> tuple[torch.Tensor, torch.Tensor, Tensors, Tensors]:
    """Launch the kernels; arguments and results are those of the op of :mod:`vsae_fast.ops.grouped_mlp`.

    Parameters
    ----------
    kernels : Kernels
    """
    n_rows, n_groups = mask.shape
    sizes = [x.shape[2], *(w.shape[2] for w in weight)]
    out = x.new_empty(n_rows, n_groups, sizes[-1])
    saved = x.new_empty(saved_floats(n_rows, n_groups, sizes))
    hidden = _saved(saved, n_rows, n_groups, sizes)
    means, variances = ([t.detach().clone(memory_format=torch.contiguous_format) for t in tensors]
                        for tensors in (running_mean, running_var))  # fmt: skip
    x, mask = x.contiguous(), mask.contiguous()
    weight, bias, gamma, beta = map(_contiguous, (weight, bias, gamma, beta))
    if n_rows == 0:
        return out, saved, means, variances
    for i, layer in enumerate(kernels.layers_of(sizes, n_rows, n_groups)):
        launch = kernels.launch_of(layer)
        n_tiles = -(-n_rows // layer.tile)
        to, statistics = (out, None) if layer.head else hidden[i]
        partial = None if layer.head or not training else x.new_empty(n_tiles, n_groups, STATISTICS, layer.n_out)
        launch(
            "grouped_layer",
            (n_tiles, n_groups),
            [n_rows, n_groups, float(negative_slope), x, mask, *_below(i, hidden, gamma, beta), weight[i], bias[i], to,
             partial],
        )  # fmt: skip
        if statistics is not None:
            launch("grouped_statistics", (n_groups, 1),
                   [n_tiles, n_groups, partial, means[i], variances[i], statistics])  # fmt: skip
    return out, saved, means, variances


def run_backward(
    kernels: Kernels,
    gradient: torch.Tensor,
    saved: torch.Tensor,
    x: torch.Tensor,
    mask: torch.Tensor,
    weight: Tensors,
    bias: Tensors,
    gamma: Tensors,
    beta: Tensors,
    negative_slope: float,
) -> tuple[torch.Tensor, Tensors, Tensors, Tensors, Tensors]:
    """Launch the kernels of the gradients: of x, and of weight, bias, gamma and beta of each layer."""
    n_rows, n_groups = mask.shape
    sizes = [x.shape[2], *(w.shape[2] for w in weight)]
    if n_rows == 0:
        zeros = ([torch.zeros_like(t) for t in tensors] for tensors in (weight, bias, gamma, beta))
        first, second, third, fourth = zeros
        return torch.zeros_like(x), first, second, third, fourth
    hidden = _saved(saved, n_rows, n_groups, sizes)
    x, mask = x.contiguous(), mask.contiguous()
    gamma, beta = _contiguous(gamma), _contiguous(beta)
    counts = mask.sum(0)
    total = kernels.launch_of(None)
    of_weight: Tensors = []
    of_bias: Tensors = []
    of_gamma: Tensors = []
    of_beta: Tensors = []
    upstream, sums = gradient.contiguous(), None
    layers = kernels.layers_of(sizes, n_rows, n_groups)
    for i in range(len(layers) - 1, -1, -1):
        layer = layers[i]
        n_tiles = -(-n_rows // layer.tile)
        weights = x.new_empty(n_tiles, n_groups, layer.n_in, layer.n_out)
        biases = x.new_empty(n_tiles, n_groups, layer.n_out)
        below = x.new_empty(n_groups, n_rows, layer.n_in) if i else x.new_empty(x.shape)
        below_sums = x.new_empty(n_tiles, n_groups, 2, layer.n_in) if i else None
        own = [None] * 3 if layer.head else [*hidden[i], gamma[i]]
        transposed = weight[i].transpose(1, 2).contiguous()
        kernels.launch_of(layer)(
            "grouped_layer_backward",
            (n_tiles, n_groups),
            [n_rows, n_groups, float(negative_slope), x, mask, counts, *_below(i, hidden, gamma, beta), transposed,
             upstream, sums, *own, weights, biases, below, below_sums],
        )  # fmt: skip
        of_weight.insert(0, add_up(total, weights))
        of_bias.insert(0, add_up(total, biases))
        upstream = below
        if below_sums is not None:
            sums = add_up(total, below_sums)
            of_gamma.insert(0, sums[:, 0])
            of_beta.insert(0, sums[:, 1])
    return upstream, of_weight, of_bias, of_gamma, of_beta


def _kernels(device: torch.device) -> Kernels:
    def launch_of(layer: Layer | None) -> Launch:
        name, prelude = ("add_up", "") if layer is None else ("grouped_mlp", layer.prelude())
        return load(name, prelude, device, THREADS).launch

    return Kernels(layers_of, launch_of)


def grouped_mlp(x: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, torch.Tensor, Tensors, Tensors]:
    """:func:`run` on the device of ``x``, compiled for it and the layers if need be; threads are for other backends."""
    return run(_kernels(x.device), x, *rest[:-1])


def grouped_mlp_backward(
    gradient: torch.Tensor, saved: torch.Tensor, x: torch.Tensor, *rest: Any
) -> tuple[torch.Tensor, Tensors, Tensors, Tensors, Tensors]:
    """:func:`run_backward` on the device of ``x``; whether statistics were the batch's own is in ``saved``."""
    *given, _training, negative_slope, _n_threads = rest
    return run_backward(_kernels(x.device), gradient, saved, x, *(*given, negative_slope))
