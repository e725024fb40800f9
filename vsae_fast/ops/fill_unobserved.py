"""Collective input: the data vector with its holes filled, concatenated with the mask (Gong et al. 2021, app. C)."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import torch

from vsae_fast import _native
from vsae_fast.ops.layout import AttributeLayout, column_attribute
from vsae_fast.ops.registry import LIBRARY, Addresses, Op, check_like, gpu_kernel


def _reference(
    x: torch.Tensor, mask: torch.Tensor, noise: torch.Tensor | None, attribute_width: list[int]
) -> torch.Tensor:
    one_column_each = len(attribute_width) == x.shape[-1]
    observed = mask if one_column_each else mask[..., column_attribute(tuple(attribute_width), mask.device)]
    fill = x.new_zeros(()) if noise is None else noise
    return torch.cat([torch.where(observed > 0, x, fill), mask.to(x.dtype)], dim=-1)


def _fake(x: torch.Tensor, mask: torch.Tensor, noise: torch.Tensor | None, attribute_width: list[int]) -> torch.Tensor:
    return x.new_empty(x.shape[0], x.shape[1] + mask.shape[1])


def _cpu(x: torch.Tensor, mask: torch.Tensor, noise: torch.Tensor | None, attribute_width: list[int]) -> torch.Tensor:
    filled = _fake(x, mask, noise, attribute_width)
    address = Addresses()
    start = [0, *accumulate(attribute_width)]
    step = noise.shape[-1] if noise is not None and noise.dim() == 2 and noise.shape[0] > 1 else 0
    _native.fill_unobserved(start, x.shape[0], address(x), address(mask), address(noise), step, filled.data_ptr())
    return filled


def _backward_cpu(gradient: torch.Tensor, mask: torch.Tensor, attribute_width: list[int]) -> torch.Tensor:
    x_gradient = gradient.new_empty(gradient.shape[0], gradient.shape[1] - mask.shape[1])
    address = Addresses()
    start = [0, *accumulate(attribute_width)]
    _native.fill_unobserved_backward(start, mask.shape[0], address(mask), address(gradient), x_gradient.data_ptr())
    return x_gradient


def _cuda(*arguments: Any) -> torch.Tensor:
    from vsae_fast.cuda.fill_unobserved import fill_unobserved

    return fill_unobserved(*arguments)


def _backward_cuda(*arguments: Any) -> torch.Tensor:
    from vsae_fast.cuda.fill_unobserved import fill_unobserved_backward

    return fill_unobserved_backward(*arguments)


def _triton(*arguments: Any) -> torch.Tensor:
    from vsae_fast.tensor_core.fill_unobserved import fill_unobserved

    return fill_unobserved(*arguments)


def _backward_triton(*arguments: Any) -> torch.Tensor:
    from vsae_fast.tensor_core.fill_unobserved import fill_unobserved_backward

    return fill_unobserved_backward(*arguments)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    _, mask, _, ctx.attribute_width = inputs
    ctx.save_for_backward(mask)


def _backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    (mask,) = ctx.saved_tensors
    return torch.ops.vsae_fast.fill_unobserved_backward(gradient, mask, ctx.attribute_width), None, None, None


OP = Op(
    "fill_unobserved(Tensor x, Tensor mask, Tensor? noise, int[] attribute_width) -> Tensor",
    _reference,
    _fake,
    _cpu,
    cuda_kernel=_cuda,
    triton_kernel=_triton,
)
LIBRARY.define("fill_unobserved_backward(Tensor gradient, Tensor mask, int[] attribute_width) -> Tensor")
LIBRARY.impl("fill_unobserved_backward", _backward_cpu, "CPU")
LIBRARY.impl("fill_unobserved_backward", gpu_kernel(_backward_cuda, _backward_triton), "CUDA")
torch.library.register_fake(
    "vsae_fast::fill_unobserved_backward",
    lambda gradient, mask, attribute_width: gradient.new_empty(gradient.shape[0], gradient.shape[1] - mask.shape[1]),
    lib=LIBRARY,
)
OP.register_autograd(_setup_context, _backward)


def fill_unobserved(
    x: torch.Tensor, mask: torch.Tensor, noise: torch.Tensor | None, layout: AttributeLayout, backend: str = "auto"
) -> torch.Tensor:
    """Fill the holes and append the mask; differentiable in ``x``.

    Parameters
    ----------
    x : torch.Tensor, shape (N, D)
        Encoded data; what stands in unobserved columns is never read into the result.
    mask : torch.Tensor, shape (N, M)
        1 = observed.
    noise : torch.Tensor of shape (N, D), (1, D) or (D,), or None
        Goes into the holes; None fills them with zeros, the mean of standardised columns.
    layout : AttributeLayout
    backend : {"auto", "cpu", "cuda", "triton", "reference"}

    Returns
    -------
    torch.Tensor, shape (N, D + M)

    Raises
    ------
    ValueError
        Shapes, dtypes or devices that do not fit each other, or a backend that cannot run on these tensors.

    Examples
    --------
    >>> layout = AttributeLayout(("numerical", "numerical"), (1, 1))
    >>> fill_unobserved(torch.tensor([[5.0, 9.0]]), torch.tensor([[1.0, 0.0]]), None, layout)
    tensor([[5., 0., 1., 0.]])
    """
    n_rows, columns = mask.shape[0], layout.n_columns
    check_like(x, {"x": (x, (n_rows, columns)), "mask": (mask, (n_rows, layout.n_attributes))})
    if noise is not None:
        shapes = ((n_rows, columns), (1, columns), (columns,))
        check_like(x, {"noise": (noise, tuple(noise.shape) if tuple(noise.shape) in shapes else shapes[0])})
    result: torch.Tensor = OP.select(backend, x)(x, mask, noise, list(layout.widths))
    return result
