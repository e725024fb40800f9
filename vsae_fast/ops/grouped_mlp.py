"""Independent small networks of one shape, run as batched products: the attributive encoders (appendix C.1).

Layer l of network g, for the rows n in which attribute g is observed::

    a = h W[g] + b[g];   h' = LeakyReLU((a - mean) / sqrt(var + eps) * gamma[g] + beta[g])

and a linear head at the end. Batch statistics see only those rows; the other rows are computed with them too, from an
input of zeros, but nothing downstream uses their result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from vsae_fast import _native
from vsae_fast.ops.registry import LIBRARY, Addresses, Op, check_like, gpu_kernel

MIN_ROWS_FOR_STATISTICS = 2  # with one observed row the variance is 0 and the layer would forget its input


@dataclass
class BatchNormState:
    """Scale, shift and running statistics of one grouped layer, each of shape (G, H)."""

    weight: torch.Tensor
    bias: torch.Tensor
    running_mean: torch.Tensor
    running_var: torch.Tensor
    eps: ClassVar[float] = 1e-5
    momentum: ClassVar[float] = 0.1


def masked_batch_norm(h: torch.Tensor, mask: torch.Tensor, state: BatchNormState, training: bool) -> torch.Tensor:
    """Batch normalisation of ``h`` (N, G, H) over the rows where ``mask`` (N, G) is 1.

    A network with fewer than two observed rows in the batch uses its running statistics and leaves them alone.
    """
    if not training:
        mean, var = state.running_mean, state.running_var
    else:
        weight = mask.to(h.dtype).unsqueeze(-1)  # [N, G, 1]
        count = weight.sum(0)  # [G, 1]
        safe = count.clamp(min=1)
        mean = (weight * h).sum(0) / safe
        var = (weight * (h - mean) ** 2).sum(0) / safe
        enough = count >= MIN_ROWS_FOR_STATISTICS
        with torch.no_grad():
            unbiased = var * count / (count - 1).clamp(min=1)
            rate = torch.where(enough, state.momentum, 0.0).to(h.dtype)
            state.running_mean.lerp_(mean.detach(), rate)
            state.running_var.lerp_(unbiased.detach(), rate)
        mean = torch.where(enough, mean, state.running_mean)
        var = torch.where(enough, var, state.running_var)
    return (h - mean) * (torch.rsqrt(var + state.eps) * state.weight) + state.bias


Tensors = list[torch.Tensor]


def _reference(
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
    n_threads: int,
) -> tuple[torch.Tensor, torch.Tensor, Tensors, Tensors]:
    del n_threads  # torch's own setting counts here
    norms = [
        BatchNormState(scale, shift, mean.clone(), var.clone())
        for scale, shift, mean, var in zip(gamma, beta, running_mean, running_var, strict=True)
    ]
    h = torch.where(mask.unsqueeze(-1) > 0, x, 0.0).transpose(0, 1)  # [G, N, I]
    for layer, (w, b) in enumerate(zip(weight, bias, strict=True)):
        h = torch.baddbmm(b.unsqueeze(1), h, w)  # [G, N, H]
        if layer < len(norms):
            h = masked_batch_norm(h.transpose(0, 1), mask, norms[layer], training).transpose(0, 1)
            h = torch.nn.functional.leaky_relu(h, negative_slope)
    means, variances = [norm.running_mean for norm in norms], [norm.running_var for norm in norms]
    return h.transpose(0, 1), x.new_empty(0), means, variances


def _sizes(weight: Tensors) -> list[int]:
    return [weight[0].shape[1], *(w.shape[2] for w in weight)]


def _fake(
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
    n_threads: int,
) -> tuple[torch.Tensor, torch.Tensor, Tensors, Tensors]:
    floats = _native.grouped_mlp_saved_floats
    if x.device.type == "cuda":
        from vsae_fast.cuda.grouped_mlp import saved_floats as floats
    saved = x.new_empty(floats(int(x.shape[0]), int(x.shape[1]), _sizes(weight)))
    means, variances = ([torch.empty_like(t) for t in tensors] for tensors in (running_mean, running_var))
    return x.new_empty(x.shape[0], x.shape[1], weight[-1].shape[2]), saved, means, variances


def _cpu(
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
    n_threads: int,
) -> tuple[torch.Tensor, torch.Tensor, Tensors, Tensors]:
    n_rows, n_groups = mask.shape
    sizes = _sizes(weight)
    out = x.new_empty(n_rows, n_groups, sizes[-1])
    saved = x.new_empty(_native.grouped_mlp_saved_floats(n_rows, n_groups, sizes))
    means = [t.detach().clone(memory_format=torch.contiguous_format) for t in running_mean]
    variances = [t.detach().clone(memory_format=torch.contiguous_format) for t in running_var]
    address = Addresses()
    _native.grouped_mlp(
        n_rows, n_groups, sizes, training, negative_slope, address(x), address(mask),
        address.of(weight), address.of(bias), address.of(gamma), address.of(beta), address.of(means),
        address.of(variances), out.data_ptr(), saved.data_ptr(), n_threads,
    )  # fmt: skip
    return out, saved, means, variances


def _backward_cpu(
    gradient: torch.Tensor,
    saved: torch.Tensor,
    x: torch.Tensor,
    mask: torch.Tensor,
    weight: Tensors,
    bias: Tensors,
    gamma: Tensors,
    beta: Tensors,
    training: bool,
    negative_slope: float,
    n_threads: int,
) -> tuple[torch.Tensor, Tensors, Tensors, Tensors, Tensors]:
    n_rows, n_groups = mask.shape
    result = _backward_fake(gradient, saved, x, mask, weight, bias, gamma, beta, training, negative_slope, n_threads)
    x_gradient, *of_parameters = result
    weights, biases, gammas, betas = ([t.data_ptr() for t in tensors] for tensors in of_parameters)
    address = Addresses()
    _native.grouped_mlp_backward(
        n_rows, n_groups, _sizes(weight), training, negative_slope, address(x), address(mask),
        address.of(weight), address.of(bias), address.of(gamma), address.of(beta), address(gradient), address(saved),
        x_gradient.data_ptr(), weights, biases, gammas, betas, n_threads,
    )  # fmt: skip
    return result


def _backward_fake(
    gradient: torch.Tensor,
    saved: torch.Tensor,
    x: torch.Tensor,
    mask: torch.Tensor,
    weight: Tensors,
    bias: Tensors,
    gamma: Tensors,
    beta: Tensors,
    training: bool,
    negative_slope: float,
    n_threads: int,
) -> tuple[torch.Tensor, Tensors, Tensors, Tensors, Tensors]:
    weights, biases, gammas, betas = (
        [t.new_empty(t.shape) for t in tensors] for tensors in (weight, bias, gamma, beta)
    )
    return x.new_empty(x.shape), weights, biases, gammas, betas


def _cuda(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor, Tensors, Tensors]:
    from vsae_fast.cuda.grouped_mlp import grouped_mlp

    return grouped_mlp(*arguments)


def _backward_cuda(*arguments: Any) -> tuple[torch.Tensor, Tensors, Tensors, Tensors, Tensors]:
    from vsae_fast.cuda.grouped_mlp import grouped_mlp_backward

    return grouped_mlp_backward(*arguments)


def _triton(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor, Tensors, Tensors]:
    from vsae_fast.tensor_core.grouped_mlp import grouped_mlp

    return grouped_mlp(*arguments)


def _backward_triton(*arguments: Any) -> tuple[torch.Tensor, Tensors, Tensors, Tensors, Tensors]:
    from vsae_fast.tensor_core.grouped_mlp import grouped_mlp_backward

    return grouped_mlp_backward(*arguments)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    x, mask, weight, bias, gamma, beta, _, _, ctx.training, ctx.negative_slope, ctx.n_threads = inputs
    ctx.n_layers = len(weight)
    ctx.save_for_backward(output[1], x, mask, *weight, *bias, *gamma, *beta)


def _backward(ctx: Any, gradient: torch.Tensor, *rest: Any) -> tuple[Any, ...]:
    saved, x, mask, *parameters = ctx.saved_tensors
    n = ctx.n_layers
    ends = [n, 2 * n, 3 * n - 1, 4 * n - 2]
    groups = [parameters[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    of_x, *of_parameters = torch.ops.vsae_fast.grouped_mlp_backward(
        gradient, saved, x, mask, *groups, ctx.training, ctx.negative_slope, ctx.n_threads
    )
    none = [None] * (n - 1)
    return of_x, None, *of_parameters, none, none, None, None, None


_PARAMETERS = "Tensor[] weight, Tensor[] bias, Tensor[] gamma, Tensor[] beta"
OP = Op(
    f"grouped_mlp(Tensor x, Tensor mask, {_PARAMETERS}, Tensor[] running_mean, Tensor[] running_var, "
    "bool training, float negative_slope, int n_threads) -> (Tensor, Tensor, Tensor[], Tensor[])",
    _reference,
    _fake,
    _cpu,
    cuda_kernel=_cuda,
    triton_kernel=_triton,
)
LIBRARY.define(
    f"grouped_mlp_backward(Tensor gradient, Tensor saved, Tensor x, Tensor mask, {_PARAMETERS}, "
    "bool training, float negative_slope, int n_threads) -> (Tensor, Tensor[], Tensor[], Tensor[], Tensor[])"
)
LIBRARY.impl("grouped_mlp_backward", _backward_cpu, "CPU")
LIBRARY.impl("grouped_mlp_backward", gpu_kernel(_backward_cuda, _backward_triton), "CUDA")
torch.library.register_fake("vsae_fast::grouped_mlp_backward", _backward_fake, lib=LIBRARY)
OP.register_autograd(_setup_context, _backward)


def grouped_mlp(
    x: torch.Tensor,
    mask: torch.Tensor,
    weights: list[torch.Tensor],
    biases: list[torch.Tensor],
    norms: list[BatchNormState],
    training: bool,
    negative_slope: float = 0.01,
    backend: str = "auto",
) -> torch.Tensor:
    """Run ``G`` networks side by side; differentiable in ``x`` and all parameters.

    Parameters
    ----------
    x : torch.Tensor, shape (N, G, I)
        Input of each network, zero-padded to the widest; not read where the mask is 0.
    mask : torch.Tensor, shape (N, G)
        1 = observed: the rows that batch statistics are taken over.
    weights, biases : list of torch.Tensor
        Shapes (G, I, H) and (G, H), a pair per layer; the last pair is the linear head.
    norms : list of BatchNormState
        One per layer but the last; their running statistics are updated in place in training.
    training : bool
    negative_slope : float
    backend : {"auto", "cpu", "cuda", "triton", "reference"}

    Returns
    -------
    torch.Tensor, shape (N, G, O)

    Raises
    ------
    ValueError
        Shapes, dtypes or devices that do not fit each other, or a backend that cannot run on these tensors.
    """
    _check(x, mask, weights, biases, norms)
    out, _, means, variances = OP.select(backend, x)(
        x,
        mask,
        weights,
        biases,
        [norm.weight for norm in norms],
        [norm.bias for norm in norms],
        [norm.running_mean for norm in norms],
        [norm.running_var for norm in norms],
        training,
        negative_slope,
        torch.get_num_threads(),
    )
    if training:
        with torch.no_grad():
            for norm, mean, var in zip(norms, means, variances, strict=True):
                norm.running_mean.copy_(mean)
                norm.running_var.copy_(var)
    result: torch.Tensor = out
    return result


def _check(x: torch.Tensor, mask: torch.Tensor, weights: Tensors, biases: Tensors, norms: list[BatchNormState]) -> None:
    if not weights or len(weights) != len(biases) or len(norms) != len(weights) - 1:
        raise ValueError(
            f"weights, biases and norms must hold one entry per layer, norms none for the head, got {len(weights)}, "
            f"{len(biases)} and {len(norms)}"
        )
    n_rows, n_groups = mask.shape
    expected = {"x": (x, (n_rows, n_groups, weights[0].shape[-2])), "mask": (mask, (n_rows, n_groups))}
    n_in = weights[0].shape[-2]
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        width = weight.shape[-1]
        expected[f"weights[{layer}]"] = (weight, (n_groups, n_in, width))
        expected[f"biases[{layer}]"] = (bias, (n_groups, width))
        n_in = width
    for layer, norm in enumerate(norms):
        width = weights[layer].shape[-1]
        for name in ("weight", "bias", "running_mean", "running_var"):
            expected[f"norms[{layer}].{name}"] = (getattr(norm, name), (n_groups, width))
    check_like(x, expected)
