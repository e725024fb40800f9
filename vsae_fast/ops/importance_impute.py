"""Self-normalised importance sampling of the unobserved attributes (Gong et al. 2021, section 3.4).

::

    z_k     = mean + scale * noise_k,   k = 1..K
    log w_k = c log p(x_o | z_k, m) + log p(m | z_k) + log N(z_k; 0, I) - log q(z_k | x_o, m)
    imputed = sum_k softmax(log w)_k E[x | z_k],   log evidence = log mean_k w_k,   ESS = (sum w)^2 / sum w^2
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch

from vsae_fast import _native
from vsae_fast.ops.elbo import data_log_likelihood, mask_log_likelihood
from vsae_fast.ops.folded_decoders import DenseLayer, FoldedDecoders
from vsae_fast.ops.layout import AttributeLayout, Kind, gather_group
from vsae_fast.ops.registry import Op

# Hidden values that the reference holds at once: rows are cut to it, so that memory does not grow with N.
REFERENCE_CHUNK = 1 << 22


class Imputation(NamedTuple):
    """Result of importance sampling.

    Attributes
    ----------
    imputed : torch.Tensor, shape (N, D)
        Weighted mean of the conditional means or class probabilities where unobserved, ``x`` itself where observed.
    log_evidence : torch.Tensor of float64, shape (N,)
        Estimate of log p(x_o, m) in nats (of the tempered model where ``visible_weight`` is not 1).
    effective_size : torch.Tensor of float64, shape (N,)
        Effective sample size, between 1 and K.
    """

    imputed: torch.Tensor
    log_evidence: torch.Tensor
    effective_size: torch.Tensor


def log_weights(
    z: torch.Tensor,
    half_square: torch.Tensor,
    x: torch.Tensor,
    mask: torch.Tensor,
    mask_logits: torch.Tensor,
    output: torch.Tensor,
    decoders: FoldedDecoders,
    visible_weight: float,
) -> torch.Tensor:
    """``log w_k`` without log(scale), (K, N): z and outputs are (K, N, ...), ``half_square`` is |noise_k|^2 / 2."""
    likelihood = data_log_likelihood(output, decoders.log_scale, x, decoders.layout)  # [K, N, M]
    return (
        visible_weight * torch.where(mask > 0, likelihood, 0.0).sum(-1)
        + mask_log_likelihood(mask_logits, mask).sum(-1)
        + half_square.unsqueeze(-1)
        - 0.5 * (z**2).sum(-1)
    )


def expected_value(output: torch.Tensor, layout: AttributeLayout) -> torch.Tensor:
    """E[x | z]: the output itself where numerical, class probabilities where categorical."""
    value = output.clone()
    for group in layout.groups(output.device):
        if group.kind == "categorical":
            p = torch.softmax(gather_group(output, group, -math.inf), -1)
            real = group.columns < layout.n_columns
            value[..., group.columns[real]] = p[..., real]
    return value


def _unflatten(
    mask_weight: list[torch.Tensor],
    mask_bias: list[torch.Tensor],
    mask_activation: list[bool],
    data_weight: list[torch.Tensor],
    data_bias: list[torch.Tensor],
    data_activation: list[bool],
    log_scale: torch.Tensor,
    attribute_start: list[int],
    attribute_kind: list[int],
    negative_slope: float,
) -> FoldedDecoders:
    names: tuple[Kind, Kind] = ("numerical", "categorical")
    widths = tuple(b - a for a, b in pairwise(attribute_start))
    layout = AttributeLayout(tuple(names[kind] for kind in attribute_kind), widths)
    data = tuple(map(DenseLayer, data_weight, data_bias, data_activation))
    mask = tuple(map(DenseLayer, mask_weight, mask_bias, mask_activation))
    return FoldedDecoders(mask, data[:-1], data[-1], log_scale, layout, negative_slope)


def _reference(
    mean: torch.Tensor,
    scale: torch.Tensor,
    x: torch.Tensor,
    mask: torch.Tensor,
    noise: torch.Tensor,
    context: torch.Tensor | None,
    mask_weight: list[torch.Tensor],
    mask_bias: list[torch.Tensor],
    mask_activation: list[bool],
    data_weight: list[torch.Tensor],
    data_bias: list[torch.Tensor],
    data_activation: list[bool],
    log_scale: torch.Tensor,
    attribute_start: list[int],
    attribute_kind: list[int],
    negative_slope: float,
    visible_weight: float,
    n_threads: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    del n_threads  # torch's own setting counts here
    decoders = _unflatten(
        mask_weight, mask_bias, mask_activation, data_weight, data_bias, data_activation, log_scale,
        attribute_start, attribute_kind, negative_slope,
    )  # fmt: skip
    n_samples = noise.shape[0]
    half_square = 0.5 * (noise**2).sum(-1)  # [K]
    widest = max(max(layer.weight.shape[0] for layer in decoders.data_layers), decoders.layout.n_columns)
    n_chunk = max(1, REFERENCE_CHUNK // (n_samples * widest))
    imputed, evidence, size = [], [], []
    for begin in range(0, max(mean.shape[0], 1), n_chunk):
        rows = slice(begin, begin + n_chunk)
        z = mean[rows] + scale[rows] * noise.unsqueeze(1)  # [K, N, L]
        mask_logits, output = decoders.decode(z, None if context is None else context[rows])
        log_w = log_weights(z, half_square, x[rows], mask[rows], mask_logits, output, decoders, visible_weight)
        weight = torch.softmax(log_w, 0)
        value = (weight.unsqueeze(-1) * expected_value(output, decoders.layout)).sum(0)
        imputed.append(torch.where(decoders.layout.expand(mask[rows]) > 0, x[rows], value))
        total = torch.logsumexp(log_w, 0) - math.log(n_samples) + scale[rows].log().sum(-1)
        evidence.append(total.double())
        size.append(1 / (weight.double() ** 2).sum(0))
    return torch.cat(imputed), torch.cat(evidence), torch.cat(size)


def _fake(
    mean: torch.Tensor, scale: torch.Tensor, x: torch.Tensor, *rest: object
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    per_row = x.new_empty(x.shape[0], dtype=torch.float64)
    return x.new_empty(x.shape), per_row, torch.empty_like(per_row)  # contiguous even where x is not


def _cpu(
    mean: torch.Tensor,
    scale: torch.Tensor,
    x: torch.Tensor,
    mask: torch.Tensor,
    noise: torch.Tensor,
    context: torch.Tensor | None,
    mask_weight: list[torch.Tensor],
    mask_bias: list[torch.Tensor],
    mask_activation: list[bool],
    data_weight: list[torch.Tensor],
    data_bias: list[torch.Tensor],
    data_activation: list[bool],
    log_scale: torch.Tensor,
    attribute_start: list[int],
    attribute_kind: list[int],
    negative_slope: float,
    visible_weight: float,
    n_threads: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    imputed, log_evidence, effective_size = _fake(mean, scale, x)
    keep_alive: list[torch.Tensor] = []  # the kernel sees addresses only

    def address(tensor: torch.Tensor) -> int:
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
            raise ValueError(f"backend='cpu' takes float32 tensors on the CPU, got {tensor.dtype} on {tensor.device}")
        tensor = tensor.detach().contiguous()
        keep_alive.append(tensor)
        return tensor.data_ptr()

    def layers(weight: list[torch.Tensor], bias: list[torch.Tensor], activation: list[bool]) -> list[_native.Layer]:
        return [
            _native.Layer(address(w), address(b), w.shape[1], w.shape[0], a)
            for w, b, a in zip(weight, bias, activation, strict=True)
        ]

    arguments = _native.ImportanceImputeArguments()
    arguments.mean, arguments.scale, arguments.x = address(mean), address(scale), address(x)
    arguments.mask, arguments.noise = address(mask), address(noise)
    arguments.context = 0 if context is None else address(context)
    arguments.mask_layers = layers(mask_weight, mask_bias, mask_activation)
    arguments.data_layers = layers(data_weight[:-1], data_bias[:-1], data_activation[:-1])
    arguments.output_weight, arguments.output_bias = address(data_weight[-1]), address(data_bias[-1])
    arguments.log_scale = address(log_scale)
    arguments.attribute_start, arguments.attribute_kind = attribute_start, attribute_kind
    arguments.n_rows, arguments.n_samples, arguments.n_latent = mean.shape[0], noise.shape[0], mean.shape[1]
    arguments.negative_slope, arguments.visible_weight = negative_slope, visible_weight
    arguments.imputed = imputed.data_ptr()
    arguments.log_evidence, arguments.effective_size = log_evidence.data_ptr(), effective_size.data_ptr()
    _native.importance_impute(arguments, n_threads)
    return imputed, log_evidence, effective_size


OP = Op(
    "importance_impute(Tensor mean, Tensor scale, Tensor x, Tensor mask, Tensor noise, Tensor? context, "
    "Tensor[] mask_weight, Tensor[] mask_bias, bool[] mask_activation, "
    "Tensor[] data_weight, Tensor[] data_bias, bool[] data_activation, "
    "Tensor log_scale, int[] attribute_start, int[] attribute_kind, "
    "float negative_slope, float visible_weight, int n_threads) -> (Tensor, Tensor, Tensor)",
    _reference,
    _fake,
)
OP.register_cpu(_cpu)


def importance_impute(
    mean: torch.Tensor,
    scale: torch.Tensor,
    x: torch.Tensor,
    mask: torch.Tensor,
    noise: torch.Tensor,
    decoders: FoldedDecoders,
    *,
    context: torch.Tensor | None = None,
    visible_weight: float = 1.0,
    n_threads: int | None = None,
    backend: str = "auto",
) -> Imputation:
    """Impute rows from their proposals.

    Parameters
    ----------
    mean, scale : torch.Tensor, shape (N, L)
        Mean and standard deviation of each row's proposal.
    x : torch.Tensor, shape (N, D)
        Encoded data, finite everywhere.
    mask : torch.Tensor, shape (N, M)
        1 = observed.
    noise : torch.Tensor, shape (K, L)
        Standard normal; shared by all rows, so that a row's result does not depend on its neighbours.
    decoders : FoldedDecoders
    context : torch.Tensor, shape (N, C), optional
        Added to the data decoder's first layer before its activation.
    visible_weight : float
        Exponent of p(x_o | z); 1 in the paper.
    n_threads : int, optional
        Of the C++ kernel; torch's own setting where it is left out.
    backend : {"auto", "cpu", "reference"}

    Returns
    -------
    Imputation

    Raises
    ------
    ValueError
        Shapes that do not fit each other, no samples, or a backend that cannot run on these tensors.
    """
    _check_shapes(mean, scale, x, mask, noise, decoders, context)
    if n_threads is None:
        n_threads = torch.get_num_threads()
    elif n_threads < 1:
        raise ValueError(f"n_threads must be at least 1, got {n_threads}")
    layers = (*decoders.data_layers, decoders.output)
    result = OP.select(backend, mean)(
        mean,
        scale,
        x,
        mask,
        noise,
        context,
        [layer.weight for layer in decoders.mask_layers],
        [layer.bias for layer in decoders.mask_layers],
        [layer.activation for layer in decoders.mask_layers],
        [layer.weight for layer in layers],
        [layer.bias for layer in layers],
        [layer.activation for layer in layers],
        decoders.log_scale,
        list(decoders.layout.starts),
        list(decoders.layout.kind_codes),
        decoders.negative_slope,
        visible_weight,
        n_threads,
    )
    return Imputation(*result)


def _check_shapes(
    mean: torch.Tensor,
    scale: torch.Tensor,
    x: torch.Tensor,
    mask: torch.Tensor,
    noise: torch.Tensor,
    decoders: FoldedDecoders,
    context: torch.Tensor | None,
) -> None:
    n_rows = x.shape[0]
    expected = {
        "x": (x, (n_rows, decoders.layout.n_columns)),
        "mask": (mask, (n_rows, decoders.layout.n_attributes)),
        "mean": (mean, (n_rows, decoders.n_latent)),
        "scale": (scale, (n_rows, decoders.n_latent)),
        "noise": (noise, (noise.shape[0], decoders.n_latent)),
    }
    if context is not None:
        expected["context"] = (context, (n_rows, decoders.data_layers[0].weight.shape[0]))
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
    if noise.shape[0] < 1:
        raise ValueError("noise must hold at least one sample")
