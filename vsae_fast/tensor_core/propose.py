"""Launches of kernels/propose.py: the proposal networks, layer by layer."""

from __future__ import annotations

from typing import Any

import torch

from vsae_fast.cuda.tables import int_table, layout_tables
from vsae_fast.ops.folded_encoders import FoldedEncoders
from vsae_fast.tensor_core.device import launcher
from vsae_fast.tensor_core.padding import padded

ROWS, INPUTS, OUTPUTS = 64, 32, 64  # of a program at once; not measured


def blocks(n_in: int, n_out: int) -> dict[str, int]:
    """Sizes of a layer and of what a program takes of it."""
    return {
        "IN": n_in,
        "OUT": n_out,
        "ROWS": ROWS,
        "IN_BLOCK": min(padded(n_in), INPUTS),
        "OUT_BLOCK": min(padded(n_out), OUTPUTS),
    }


def propose(
    x: torch.Tensor, mask: torch.Tensor, encoders: FoldedEncoders, fill: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean, scale (N, P, L) and context (N, P, C) of each row's proposals; products in tf32.

    Parameters
    ----------
    x, mask : torch.Tensor, shapes (N, D) and (N, M)
    encoders : FoldedEncoders
    fill : torch.Tensor, shape (P, D), optional
    """
    n_rows, n_proposals = x.shape[0], 1 if fill is None else fill.shape[0]
    mean, scale = (x.new_empty(n_rows, n_proposals, encoders.n_latent) for _ in range(2))
    context = x.new_empty(n_rows, n_proposals, 0 if encoders.context is None else encoders.context.shape[0])
    if n_rows:
        x, mask = x.contiguous(), mask.contiguous()
        _run_own(x, mask, encoders, mean, scale)
        for proposal in range(n_proposals):
            own_fill = None if fill is None else fill.contiguous()
            _run_collective(x, mask, own_fill, proposal, encoders, mean, scale, context)
    return mean, scale, context


def _tiles(n_rows: int) -> int:
    return -(-n_rows // ROWS)


def _shared(encoders: FoldedEncoders) -> dict[str, Any]:
    latent = encoders.n_latent // encoders.layout.n_attributes
    return {"LATENT": latent, "SLOPE": encoders.negative_slope}


def _run_own(
    x: torch.Tensor, mask: torch.Tensor, encoders: FoldedEncoders, mean: torch.Tensor, scale: torch.Tensor
) -> None:
    layout, device = encoders.layout, x.device
    _, start, _ = layout_tables(layout.widths, layout.kind_codes, device)
    for group, layers in zip(layout.groups(device), encoders.own, strict=True):
        members = int_table(group.attributes, len(group.attributes), device)
        sizes = [x.shape[0], layout.n_attributes, layout.n_columns, len(group.attributes), mean.shape[1]]
        hidden = x  # not read by the first layer
        for i, layer in enumerate(layers):
            _, n_out, n_in = layer.weight.shape
            last = i + 1 == len(layers)
            shape = blocks(n_in, n_out)
            out = x.new_empty(len(group.attributes), x.shape[0], 0 if last else n_out)
            launch = launcher("propose", **shape, **_shared(encoders), FIRST=i == 0, LAST=last)
            n_blocks = -(-n_out // shape["OUT_BLOCK"])
            launch(
                "own_layer",
                (_tiles(x.shape[0]), len(group.attributes) * n_blocks),
                [*sizes, members, start, x, mask, hidden, layer.weight.contiguous(), layer.bias.contiguous(), out,
                 mean, scale],
            )  # fmt: skip
            hidden = out


def _run_collective(
    x: torch.Tensor,
    mask: torch.Tensor,
    fill: torch.Tensor | None,
    proposal: int,
    encoders: FoldedEncoders,
    mean: torch.Tensor,
    scale: torch.Tensor,
    context: torch.Tensor,
) -> None:
    layout = encoders.layout
    attribute, _, _ = layout_tables(layout.widths, layout.kind_codes, x.device)
    sizes = [x.shape[0], layout.n_attributes, layout.n_columns, proposal, mean.shape[1]]

    def run(
        role: str, weight: torch.Tensor, bias: torch.Tensor | None, hidden: torch.Tensor, out: torch.Tensor
    ) -> None:
        n_out, n_in = weight.shape
        shape = blocks(n_in, n_out)
        launch = launcher("propose", **shape, **_shared(encoders), FIRST=hidden is x, ROLE=role)
        parameters = [weight.contiguous(), None if bias is None else bias.contiguous()]
        launch(
            "collective_layer",
            (_tiles(x.shape[0]), -(-n_out // shape["OUT_BLOCK"])),
            [*sizes, attribute, x, mask, fill, hidden, *parameters, out, mean, scale],
        )

    hidden = x  # the first layer reads the table
    for layer in encoders.body:
        out = x.new_empty(x.shape[0], layer.weight.shape[0])
        run("body", layer.weight, layer.bias, hidden, out)
        hidden = out
    run("head", encoders.head.weight, encoders.head.bias, hidden, hidden)
    if encoders.context is not None:
        run("context", encoders.context, None, hidden, context)
