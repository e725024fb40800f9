"""Proposals q(z | x_o, m) of rows for imputation: networks in evaluation mode, from rows to means and scales.

Block i of the latents comes from attribute i's own network where it is observed and from the collective one, which sees
the observed data, the fill of the holes and the mask, where it is not (Gong et al. 2021, section 3.2).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.nn import functional

from vsae_fast import _native
from vsae_fast.ops.fill_unobserved import fill_unobserved
from vsae_fast.ops.folded_encoders import FoldedEncoders
from vsae_fast.ops.layout import KIND_NAMES, AttributeLayout, gather_group
from vsae_fast.ops.registry import Addresses, Op, check_like, resolve

LOG_VARIANCE_LIMIT = 8.0  # kLogVarianceLimit in csrc/core/training_step.h

FLOAT_BYTES = torch.float32.itemsize

Tensors = list[torch.Tensor]


class Proposals(NamedTuple):
    """``P`` proposals of each row, one per fill, and what the skip path adds to the data decoder.

    Attributes
    ----------
    mean, scale : torch.Tensor, shape (N, P, L)
    context : torch.Tensor, shape (N, P, C), or None
    """

    mean: torch.Tensor
    scale: torch.Tensor
    context: torch.Tensor | None


def _reference(
    x: torch.Tensor,
    mask: torch.Tensor,
    fill: torch.Tensor | None,
    own_weight: Tensors,
    own_bias: Tensors,
    own_layers: list[int],
    body_weight: Tensors,
    body_bias: Tensors,
    head_weight: torch.Tensor,
    head_bias: torch.Tensor,
    context_weight: torch.Tensor | None,
    widths: list[int],
    kinds: list[int],
    negative_slope: float,
    n_threads: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    del n_threads  # torch's own setting counts here
    layout = AttributeLayout(tuple(KIND_NAMES[kind] for kind in kinds), tuple(widths))
    shape = (*mask.shape, head_weight.shape[0] // mask.shape[1])
    own = x.new_empty(shape)
    first = 0
    for group, n_layers in zip(layout.groups(x.device), own_layers, strict=True):
        h = gather_group(torch.where(layout.expand(mask) > 0, x, 0.0), group, 0.0).transpose(0, 1)  # [G, N, width]
        for layer in range(first, first + n_layers):
            h = torch.baddbmm(own_bias[layer].unsqueeze(1), h, own_weight[layer].transpose(1, 2))
            if layer + 1 < first + n_layers:
                h = functional.leaky_relu(h, negative_slope)
        own[:, group.members] = h.transpose(0, 1)
        first += n_layers
    means, scales, contexts = [], [], []
    for noise in [None] if fill is None else fill:
        hidden = fill_unobserved(x, mask, noise, layout, "reference")
        for weight, bias in zip(body_weight, body_bias, strict=True):
            hidden = functional.leaky_relu(functional.linear(hidden, weight, bias), negative_slope)
        mean, log_variance = functional.linear(hidden, head_weight, head_bias).chunk(2, -1)
        collective = torch.cat([mean.view(*mask.shape, -1), log_variance.view(*mask.shape, -1)], -1)
        mean, log_variance = torch.where(mask.unsqueeze(-1) > 0, own, collective).chunk(2, -1)
        means.append(mean.flatten(1))
        scales.append(torch.exp(0.5 * log_variance.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)).flatten(1))
        if context_weight is not None:
            contexts.append(functional.linear(hidden, context_weight))
    context = torch.stack(contexts, 1) if contexts else x.new_empty(len(x), len(means), 0)
    return torch.stack(means, 1), torch.stack(scales, 1), context


def _fake(
    x: torch.Tensor,
    mask: torch.Tensor,
    fill: torch.Tensor | None,
    own_weight: Tensors,
    own_bias: Tensors,
    own_layers: list[int],
    body_weight: Tensors,
    body_bias: Tensors,
    head_weight: torch.Tensor,
    head_bias: torch.Tensor,
    context_weight: torch.Tensor | None,
    widths: list[int],
    kinds: list[int],
    negative_slope: float,
    n_threads: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    n_rows, n_proposals = x.shape[0], 1 if fill is None else fill.shape[0]
    n_context = 0 if context_weight is None else context_weight.shape[0]
    mean = x.new_empty(n_rows, n_proposals, head_weight.shape[0] // 2)
    return mean, torch.empty_like(mean), x.new_empty(n_rows, n_proposals, n_context)


def _cpu(
    x: torch.Tensor,
    mask: torch.Tensor,
    fill: torch.Tensor | None,
    own_weight: Tensors,
    own_bias: Tensors,
    own_layers: list[int],
    body_weight: Tensors,
    body_bias: Tensors,
    head_weight: torch.Tensor,
    head_bias: torch.Tensor,
    context_weight: torch.Tensor | None,
    widths: list[int],
    kinds: list[int],
    negative_slope: float,
    n_threads: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    layout = AttributeLayout(tuple(KIND_NAMES[kind] for kind in kinds), tuple(widths))
    n_rows, n_attributes = mask.shape
    n_proposals = 1 if fill is None else fill.shape[0]
    n_latent, n_context = head_weight.shape[0] // 2, 0 if context_weight is None else context_weight.shape[0]
    mean, scale = (x.new_empty(n_rows, n_proposals, n_latent) for _ in range(2))
    context = x.new_empty(n_rows, n_proposals, n_context)
    address = Addresses()

    def layer(weight: torch.Tensor, bias: torch.Tensor | None, activation: bool) -> _native.FoldedLayer:
        return _native.FoldedLayer(address(weight), address(bias), weight.shape[1], weight.shape[0], activation)

    own: list[list[_native.FoldedLayer]] = [[] for _ in range(n_attributes)]
    first = 0
    for group, n_layers in zip(layout.groups(x.device), own_layers, strict=True):
        last = first + n_layers - 1
        for i in range(first, first + n_layers):
            # Networks of a group stand one after the other; a view of each would take longer than a row's proposals.
            _, n_out, n_in = own_weight[i].shape
            weight, bias = address(own_weight[i]), address(own_bias[i])
            for g, attribute in enumerate(group.attributes):
                of_network = FLOAT_BYTES * g * n_out
                own[attribute].append(
                    _native.FoldedLayer(weight + of_network * n_in, bias + of_network, n_in, n_out, i < last)
                )
        first += n_layers

    arguments = _native.ProposeArguments()
    arguments.n_rows, arguments.n_proposals = n_rows, n_proposals
    arguments.latent_per_attribute, arguments.negative_slope = n_latent // n_attributes, negative_slope
    arguments.attribute_start = list(layout.starts)
    arguments.x, arguments.mask, arguments.fill = address(x), address(mask), address(fill)
    arguments.mean, arguments.scale, arguments.context = mean.data_ptr(), scale.data_ptr(), context.data_ptr()
    arguments.own = own
    arguments.body = [layer(weight, bias, True) for weight, bias in zip(body_weight, body_bias, strict=True)]
    arguments.head = [layer(head_weight, head_bias, False)]
    if context_weight is not None:
        arguments.context_projection = [layer(context_weight, None, False)]
    _native.propose(arguments, n_threads)
    return mean, scale, context


def _cuda(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    from vsae_fast.cuda.propose import propose

    return propose(*arguments)


def _triton(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    from vsae_fast.tensor_core.propose import propose

    return propose(*arguments)


OP = Op(
    "propose(Tensor x, Tensor mask, Tensor? fill, Tensor[] own_weight, Tensor[] own_bias, int[] own_layers, "
    "Tensor[] body_weight, Tensor[] body_bias, Tensor head_weight, Tensor head_bias, Tensor? context_weight, "
    "int[] widths, int[] kinds, float negative_slope, int n_threads) -> (Tensor, Tensor, Tensor)",
    _reference,
    _fake,
    _cpu,
    _cuda,
    _triton,
)


def propose(
    x: torch.Tensor,
    mask: torch.Tensor,
    encoders: FoldedEncoders,
    *,
    fill: torch.Tensor | None = None,
    n_threads: int | None = None,
    backend: str = "auto",
) -> Proposals:
    """Propose latents for rows; no gradient.

    With the kernel a row's result does not depend on the rows beside it, to the last bit. Plain PyTorch sums in an
    order that depends on the batch.

    Parameters
    ----------
    x : torch.Tensor, shape (N, D)
        Encoded data; what stands in unobserved columns is never read.
    mask : torch.Tensor, shape (N, M)
        1 = observed.
    encoders : FoldedEncoders
        :meth:`vsae_fast.models.vsae.VSAE.folded_encoders`.
    fill : torch.Tensor, shape (P, D), optional
        Noise for the holes, a proposal for each row of it; zeros and one proposal where it is left out.
    n_threads : int, optional
        Of the C++ kernel; torch's own setting where it is left out.
    backend : {"auto", "cpu", "cuda", "triton", "reference"}

    Returns
    -------
    Proposals

    Raises
    ------
    ValueError
        Shapes, dtypes or devices that do not fit each other, or a backend that cannot run on these tensors.
    """
    layout = encoders.layout
    if n_threads is None:
        n_threads = torch.get_num_threads()
    elif n_threads < 1:
        raise ValueError(f"n_threads must be at least 1, got {n_threads}")
    if fill is not None and len(fill) < 1:
        raise ValueError("fill must hold at least one row of noise; leave it out for zeros")
    expected = {
        "mask": (mask, (len(x), layout.n_attributes)),
        "x": (x, (len(x), layout.n_columns)),
        "fill": (fill, (0 if fill is None else len(fill), layout.n_columns)),
    }
    check_like(x, {**expected, "head": (encoders.head.weight, tuple(encoders.head.weight.shape))})
    run = OP.select(backend, x)
    if resolve(backend, x.dtype, x.device) in OP.on_gpu:
        mean, scale, context = run(x, mask, encoders, fill)
        return Proposals(mean, scale, None if encoders.context is None else context)
    own = [layer for layers in encoders.own for layer in layers]
    mean, scale, context = run(
        x,
        mask,
        fill,
        [layer.weight for layer in own],
        [layer.bias for layer in own],
        [len(layers) for layers in encoders.own],
        [layer.weight for layer in encoders.body],
        [layer.bias for layer in encoders.body],
        encoders.head.weight,
        encoders.head.bias,
        encoders.context,
        list(layout.widths),
        list(layout.kind_codes),
        encoders.negative_slope,
        n_threads,
    )
    return Proposals(mean, scale, None if encoders.context is None else context)
