"""Likelihood terms and bounds (Gong et al. 2021, equations 4 to 10; importance weighting: Burda et al. 2016).

The average of a log-likelihood over samples of x needs only their mean and variance (Gaussian) or their class
frequencies (softmax), exactly::

    E[log N(x; mu, s)]  = log N(E[x]; mu, s) - Var[x] / (2 s^2)
    E[log softmax(l)_x] = sum_c frequency_c log softmax(l)_c

so one function serves observed data and the expectation over sampled x_u.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch.nn import functional

from vsae_fast import _native
from vsae_fast.ops.layout import KIND_NAMES, AttributeLayout, gather_group
from vsae_fast.ops.registry import LIBRARY, Addresses, Op, check_like, gpu_kernel

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


def data_log_likelihood(
    output: torch.Tensor,
    log_scale: torch.Tensor,
    target: torch.Tensor,
    layout: AttributeLayout,
    target_variance: torch.Tensor | None = None,
) -> torch.Tensor:
    """Log-likelihood of each attribute, or its expectation over samples.

    Parameters
    ----------
    output : torch.Tensor, shape (..., D)
        Data decoder's output: means of numerical columns, logits of categorical ones.
    log_scale : torch.Tensor, shape (D,)
        Log standard deviation of numerical columns.
    target : torch.Tensor, broadcastable to (..., D)
        Values and one-hot levels, or the samples' means and class frequencies.
    layout : AttributeLayout
    target_variance : torch.Tensor, broadcastable to (..., D), optional
        Variance of the samples of numerical columns; 0 where it is left out.

    Returns
    -------
    torch.Tensor, shape (..., M)
    """
    result = output.new_empty(*torch.broadcast_shapes(output.shape, target.shape)[:-1], layout.n_attributes)
    for group in layout.groups(output.device):
        mean = gather_group(output, group, -math.inf if group.kind == "categorical" else 0.0)
        goal = gather_group(target, group, 0.0)
        if group.kind == "categorical":
            log_p = functional.log_softmax(mean, dim=-1)
            terms = torch.where(torch.isinf(log_p), 0.0, goal * log_p)  # padding levels: 0 * -inf
        else:
            ls = gather_group(log_scale, group, 0.0)
            square = (goal - mean) ** 2
            if target_variance is not None:
                square = square + gather_group(target_variance, group, 0.0)
            terms = -0.5 * square * torch.exp(-2 * ls) - ls - HALF_LOG_TWO_PI
            if group.width > 1:
                terms = torch.where(group.columns < layout.n_columns, terms, 0.0)
        result[..., group.members] = terms.sum(-1)
    return result


def mask_log_likelihood(mask_logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Bernoulli log-likelihood of the mask, shape (..., M)."""
    return functional.logsigmoid(torch.where(mask > 0, mask_logits, -mask_logits))


def gaussian_kl(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) of each latent dimension, shape (..., L)."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)


def log_prior_ratio(z: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Log N(z; 0, I) - log N(z; mean, exp(log_variance)), summed over the latent dimensions: shape (...)."""
    noise = (z - mean) * torch.exp(-0.5 * log_variance)
    return 0.5 * (noise**2 - z**2 + log_variance).sum(-1)


def importance_weighted_bound(log_weight: torch.Tensor) -> torch.Tensor:
    """``log mean_k exp(log_weight_k)`` over the first axis: (K, N) to (N,)."""
    return torch.logsumexp(log_weight, 0) - math.log(log_weight.shape[0])


def _reference(
    output: torch.Tensor,
    log_scale: torch.Tensor,
    mask_logits: torch.Tensor,
    target: torch.Tensor,
    target_variance: torch.Tensor | None,
    mask: torch.Tensor,
    attribute_weight: torch.Tensor,
    mean: torch.Tensor,
    log_variance: torch.Tensor,
    noise: torch.Tensor | None,
    attribute_start: list[int],
    attribute_kind: list[int],
    n_threads: int,
) -> torch.Tensor:
    del n_threads  # torch's own setting counts here
    layout = AttributeLayout(
        tuple(KIND_NAMES[kind] for kind in attribute_kind), tuple(b - a for a, b in pairwise(attribute_start))
    )
    likelihood = data_log_likelihood(output, log_scale, target, layout, target_variance)  # [K, N, M]
    weighted = torch.where(attribute_weight != 0, attribute_weight * likelihood, 0.0).sum(-1)
    log_weight = weighted + mask_log_likelihood(mask_logits, mask).sum(-1)  # [K, N]
    if noise is None:
        return log_weight[0] - gaussian_kl(mean, log_variance).sum(-1)
    z = mean + torch.exp(0.5 * log_variance) * noise
    return importance_weighted_bound(log_weight + 0.5 * (noise**2 - z**2 + log_variance).sum(-1))


def _fake(output: torch.Tensor, *rest: Any) -> torch.Tensor:
    return output.new_empty(output.shape[1])


def _arguments(
    address: Addresses,
    output: torch.Tensor,
    log_scale: torch.Tensor,
    mask_logits: torch.Tensor,
    target: torch.Tensor,
    target_variance: torch.Tensor | None,
    mask: torch.Tensor,
    attribute_weight: torch.Tensor,
    mean: torch.Tensor,
    log_variance: torch.Tensor,
    noise: torch.Tensor | None,
    attribute_start: list[int],
    attribute_kind: list[int],
) -> _native.ElboArguments:
    arguments = _native.ElboArguments()
    arguments.n_samples, arguments.n_rows = output.shape[0], output.shape[1]
    arguments.n_latent = mean.shape[1]
    arguments.attribute_start, arguments.attribute_kind = attribute_start, attribute_kind
    arguments.output, arguments.log_scale = address(output), address(log_scale)
    arguments.mask_logits, arguments.target = address(mask_logits), address(target)
    arguments.target_variance, arguments.mask = address(target_variance), address(mask)
    arguments.attribute_weight, arguments.mean = address(attribute_weight), address(mean)
    arguments.log_variance, arguments.noise = address(log_variance), address(noise)
    return arguments


def _cpu(output: torch.Tensor, *rest: Any) -> torch.Tensor:
    *arguments, n_threads = rest
    bound = _fake(output)
    address = Addresses()
    _native.elbo(_arguments(address, output, *arguments), bound.data_ptr(), n_threads)
    return bound


Gradients = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def _backward_fake(
    gradient: torch.Tensor,
    output: torch.Tensor,
    log_scale: torch.Tensor,
    mask_logits: torch.Tensor,
    target: torch.Tensor,
    target_variance: torch.Tensor | None,
    mask: torch.Tensor,
    attribute_weight: torch.Tensor,
    mean: torch.Tensor,
    log_variance: torch.Tensor,
    *rest: Any,
) -> Gradients:
    o, s, m, a, v = (t.new_empty(t.shape) for t in (output, log_scale, mask_logits, mean, log_variance))
    return o, s, m, a, v


def _backward_cpu(gradient: torch.Tensor, *rest: Any) -> Gradients:
    *arguments, n_threads = rest
    gradients = _backward_fake(gradient, *arguments)
    output, log_scale, logits, mean, log_variance = (g.data_ptr() for g in gradients)
    address = Addresses()
    _native.elbo_backward(
        _arguments(address, *arguments), address(gradient), output, log_scale, logits, mean, log_variance, n_threads
    )
    return gradients


def _cuda(*arguments: Any) -> torch.Tensor:
    from vsae_fast.cuda.elbo import elbo

    return elbo(*arguments)


def _backward_cuda(*arguments: Any) -> Gradients:
    from vsae_fast.cuda.elbo import elbo_backward

    return elbo_backward(*arguments)


def _triton(*arguments: Any) -> torch.Tensor:
    from vsae_fast.tensor_core.elbo import elbo

    return elbo(*arguments)


def _backward_triton(*arguments: Any) -> Gradients:
    from vsae_fast.tensor_core.elbo import elbo_backward

    return elbo_backward(*arguments)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    *tensors, ctx.attribute_start, ctx.attribute_kind, ctx.n_threads = inputs
    ctx.present = [tensor is not None for tensor in tensors]
    ctx.save_for_backward(*(tensor for tensor in tensors if tensor is not None))


def _backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
    saved = iter(ctx.saved_tensors)
    tensors = [next(saved) if present else None for present in ctx.present]
    output, log_scale, logits, mean, log_variance = torch.ops.vsae_fast.elbo_backward(
        gradient, *tensors, ctx.attribute_start, ctx.attribute_kind, ctx.n_threads
    )
    return output, log_scale, logits, None, None, None, None, mean, log_variance, None, None, None, None


_ARGUMENTS = (
    "Tensor output, Tensor log_scale, Tensor mask_logits, Tensor target, Tensor? target_variance, Tensor mask, "
    "Tensor attribute_weight, Tensor mean, Tensor log_variance, Tensor? noise, int[] attribute_start, "
    "int[] attribute_kind, int n_threads"
)
OP = Op(f"elbo({_ARGUMENTS}) -> Tensor", _reference, _fake, _cpu, cuda_kernel=_cuda, triton_kernel=_triton)
LIBRARY.define(f"elbo_backward(Tensor gradient, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)")
LIBRARY.impl("elbo_backward", _backward_cpu, "CPU")
LIBRARY.impl("elbo_backward", gpu_kernel(_backward_cuda, _backward_triton), "CUDA")
torch.library.register_fake("vsae_fast::elbo_backward", _backward_fake, lib=LIBRARY)
OP.register_autograd(_setup_context, _backward)


def elbo(
    output: torch.Tensor,
    log_scale: torch.Tensor,
    mask_logits: torch.Tensor,
    target: torch.Tensor,
    mask: torch.Tensor,
    mean: torch.Tensor,
    log_variance: torch.Tensor,
    layout: AttributeLayout,
    *,
    attribute_weight: torch.Tensor,
    target_variance: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
    backend: str = "auto",
) -> torch.Tensor:
    """Evidence lower bound of each row; differentiable in the decoders' outputs, ``log_scale`` and the proposal.

    Without ``noise`` the single-sample bound with the divergence in closed form::

        sum_i weight_i log p(x_i | z) + log p(m | z) - KL(q(z) || p(z))

    and with it the importance-weighted bound of Burda et al. (2016) over ``K`` samples::

        log 1/K sum_k exp(sum_i weight_i log p(x_i | z_k) + log p(m | z_k) + log p(z_k) - log q(z_k))

    Parameters
    ----------
    output, mask_logits : torch.Tensor, shapes (N, D) and (N, M), or (K, N, D) and (K, N, M) with ``noise``
        Both decoders' outputs for each sample of z.
    log_scale : torch.Tensor, shape (D,)
        Log standard deviation of numerical columns.
    target : torch.Tensor, shape (N, D)
        Values and one-hot levels, or the samples' means and class frequencies. Not read where the weight is 0.
    mask : torch.Tensor, shape (N, M)
        1 = observed.
    mean, log_variance : torch.Tensor, shape (N, L)
        The proposal.
    layout : AttributeLayout
    attribute_weight : torch.Tensor, shape (N, M)
        The mask itself for the bound on (x_o, m); ones for the complete-data bound.
    target_variance : torch.Tensor, shape (N, D), optional
        Of sampled numerical targets.
    noise : torch.Tensor, shape (K, N, L), optional
        Standard normal, ``z = mean + exp(log_variance / 2) * noise``.
    backend : {"auto", "cpu", "cuda", "triton", "reference"}

    Returns
    -------
    torch.Tensor, shape (N,)

    Raises
    ------
    ValueError
        Shapes, dtypes or devices that do not fit each other, or a backend that cannot run on these tensors.
    """
    if noise is None:
        output, mask_logits = output.unsqueeze(0), mask_logits.unsqueeze(0)
    n_samples = 1 if noise is None else noise.shape[0]
    n_rows, n_attributes, columns, latent = mask.shape[0], layout.n_attributes, layout.n_columns, mean.shape[-1]
    check_like(
        output,
        {
            "output": (output, (n_samples, n_rows, columns)),
            "log_scale": (log_scale, (columns,)),
            "mask_logits": (mask_logits, (n_samples, n_rows, n_attributes)),
            "target": (target, (n_rows, columns)),
            "target_variance": (target_variance, (n_rows, columns)),
            "mask": (mask, (n_rows, n_attributes)),
            "attribute_weight": (attribute_weight, (n_rows, n_attributes)),
            "mean": (mean, (n_rows, latent)),
            "log_variance": (log_variance, (n_rows, latent)),
            "noise": (noise, (n_samples, n_rows, latent)),
        },
    )
    if n_samples < 1:
        raise ValueError("noise must hold at least one sample")
    # The kernel has no gradient for what is data in every objective here.
    data = (target, mask, attribute_weight, target_variance, noise)
    if backend == "auto" and any(tensor is not None and tensor.requires_grad for tensor in data):
        backend = "reference"
    bound: torch.Tensor = OP.select(backend, output)(
        output,
        log_scale,
        mask_logits,
        target,
        target_variance,
        mask,
        attribute_weight,
        mean,
        log_variance,
        noise,
        list(layout.starts),
        list(layout.kind_codes),
        torch.get_num_threads(),
    )
    return bound
