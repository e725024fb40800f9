"""Shapes and parameters of csrc/cuda/propose.cu for one model."""

from __future__ import annotations

from functools import cached_property, lru_cache
from itertools import accumulate

import torch

from vsae_fast.cuda.compiler import Launch, load
from vsae_fast.cuda.dense import CHUNK, MOST_OUTPUTS, SHARED_BYTES, THREADS, TILES, choose_tile
from vsae_fast.ops.folded_encoders import FoldedEncoders


class CudaEncoders:
    """Folded encoders as the kernel is compiled for them.

    Parameters
    ----------
    encoders : FoldedEncoders
    """

    def __init__(self, encoders: FoldedEncoders) -> None:
        self.encoders = encoders
        self._groups = encoders.layout.groups(encoders.head.weight.device)

    @cached_property
    def tables(self) -> list[torch.Tensor]:
        """First column of each attribute, and the attributes of the groups, one group after the other; int32."""
        members = [attribute for group in self._groups for attribute in group.attributes]
        device = self.encoders.head.weight.device
        values = (list(self.encoders.layout.starts), members)
        return [torch.tensor(table, dtype=torch.int32, device=device) for table in values]

    def shared_bytes(self, tile: int) -> int:
        """Shared memory of a block; the sum of the constants at the top of the kernel."""
        encoders = self.encoders
        widths = [0, 0]
        for i, layer in enumerate(encoders.body):
            widths[i % 2] = max(widths[i % 2], layer.weight.shape[0])
        free = len(encoders.body) % 2
        n_context = 0 if encoders.context is None else encoders.context.shape[0]
        widths[free] = max(widths[free], encoders.head.weight.shape[0], n_context)
        for group, layers in zip(self._groups, encoders.own, strict=True):
            widths[1] = max(widths[1], group.width)
            for i, layer in enumerate(layers):
                widths[i % 2] = max(widths[i % 2], layer.weight.shape[1])
        n_inputs = encoders.layout.n_columns + encoders.layout.n_attributes
        return 4 * ((n_inputs + sum(widths)) * tile + CHUNK * MOST_OUTPUTS)

    @cached_property
    def tile(self) -> int:
        """Rows at once.

        Raises
        ------
        ValueError
            The activations of the smallest tile do not fit the shared memory that every device has.
        """
        tile = choose_tile(self.shared_bytes)
        if tile is not None:
            return tile
        taken, limit = self.shared_bytes(TILES[-1]) // 1024, SHARED_BYTES // 1024
        raise ValueError(
            f"backend='cuda' keeps {TILES[-1]} rows in {limit} KiB of shared memory, and the encoders of this model "
            f"({self.encoders.layout.n_columns} columns) take {taken} KiB; use backend='reference'"
        )

    def prelude(self) -> str:
        """C++ text that stands in front of the kernel: the shapes as constants."""
        encoders, layout = self.encoders, self.encoders.layout
        offsets = iter([0, *accumulate(part.numel() for part in self._parts())])

        def entry(n_in: int, n_out: int, active: bool) -> str:
            return f"{{{n_in}, {n_out}, {next(offsets)}, {next(offsets)}, {str(active).lower()}}}"

        own: list[str] = []
        groups, first_member = [], 0
        for group, layers in zip(self._groups, encoders.own, strict=True):
            n_members = len(group.attributes)
            groups.append(f"{{{group.width}, {len(own)}, {len(layers)}, {first_member}, {n_members}}}")
            first_member += n_members
            own += [entry(la.weight.shape[2], la.weight.shape[1], la.activation) for la in layers]
        body = [entry(la.weight.shape[1], la.weight.shape[0], True) for la in encoders.body]
        lines = [
            '#include "cuda/dense.h"',
            "namespace vsae::model {",
            f"constexpr int kTile = {self.tile};",
            f"constexpr int kLatent = {encoders.n_latent // layout.n_attributes};",
            f"constexpr int kAttributes = {layout.n_attributes};",
            f"constexpr int kColumns = {layout.n_columns};",
            f"constexpr int kContext = {0 if encoders.context is None else encoders.context.shape[0]};",
            f"constexpr float kSlope = {float(encoders.negative_slope)!r}f;",
            f"constexpr Layer kOwnLayers[] = {{{', '.join(own)}}};",
            f"constexpr Group kGroups[] = {{{', '.join(groups)}}};",
            f"constexpr Layer kBodyLayers[] = {{{', '.join(body)}}};",
        ]
        lines += [f"constexpr int {name} = {next(offsets)};" for name in ("kHeadWeight", "kHeadBias", "kContextWeight")]
        return "\n".join([*lines, "}", ""])

    @cached_property
    def parameters(self) -> torch.Tensor:
        """All weights (members, in, out) and biases in one run, in the order of :meth:`prelude`."""
        return torch.cat([part.reshape(-1) for part in self._parts()])

    def _parts(self) -> list[torch.Tensor]:
        encoders = self.encoders
        parts = []
        for layer in [layer for layers in encoders.own for layer in layers] + [*encoders.body, encoders.head]:
            parts += [layer.weight.transpose(-1, -2), layer.bias]
        return parts if encoders.context is None else [*parts, encoders.context.t()]


def run(
    launch: Launch, model: CudaEncoders, x: torch.Tensor, mask: torch.Tensor, fill: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Launch the kernel; returns mean, scale (N, P, L) and context (N, P, C).

    Parameters
    ----------
    launch : callable
        See :func:`vsae_fast.cuda.importance_impute.run`.
    model : CudaEncoders
    x, mask : torch.Tensor, shapes (N, D) and (N, M)
    fill : torch.Tensor, shape (P, D), optional
    """
    n_rows, n_proposals = x.shape[0], 1 if fill is None else fill.shape[0]
    encoders = model.encoders
    mean, scale = (x.new_empty(n_rows, n_proposals, encoders.n_latent) for _ in range(2))
    context = x.new_empty(n_rows, n_proposals, 0 if encoders.context is None else encoders.context.shape[0])
    if n_rows:
        inputs = [x.contiguous(), mask.contiguous(), None if fill is None else fill.contiguous()]
        launch(
            "propose",
            (-(-n_rows // model.tile), 1),
            [n_rows, n_proposals, model.parameters, *model.tables, *inputs, mean, scale, context],
        )
    return mean, scale, context


_model = lru_cache(maxsize=8)(CudaEncoders)  # as in vsae_fast.cuda.importance_impute


def propose(
    x: torch.Tensor, mask: torch.Tensor, encoders: FoldedEncoders, fill: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """:func:`run` on the device of ``x``, compiled for it and the model if need be."""
    model = _model(encoders)
    module = load("propose", model.prelude(), x.device, THREADS)
    return run(module.launch, model, x, mask, fill)
