"""Phase 2's samples of the unobserved attributes, reduced to what the expected bound needs (appendix D).

For s = 1..S: ``z_s ~ q(z | x_o, m)``, ``x_s ~ p(x | z_s)``; the result is the mean and variance of numerical columns
and the class frequencies of categorical ones. Samples are drawn in small blocks: nothing of size N x S x D is kept.

Given the outputs ``o_s``, the Gaussian part of numerical samples ``x_s = o_s + sigma e_s`` enters the moments through
three numbers only: with ``a, b ~ N(0, 1)`` and ``c ~ chi^2(S - 2)``, independent::

    mean(x) = mean(o) + sigma a / sqrt(S)
    var(x)  = var(o) + (2 sigma sqrt(S var(o)) b + sigma^2 (b^2 + c)) / S

(split ``e`` into its part along ``(1, .., 1)``, its part along the centred ``o``, and the rest). The moments have
exactly the law that they have when every ``e_s`` is drawn.
"""

from __future__ import annotations

import math

import torch

from vsae_fast import _native
from vsae_fast.ops.draws import Draws, StreamDraws
from vsae_fast.ops.folded_decoders import FoldedDecoders, unflatten
from vsae_fast.ops.layout import gather_group
from vsae_fast.ops.registry import Addresses, Op, check_like

BLOCK = 10  # samples decoded at once; csrc/cpu/sample_moments.cpp draws in the same blocks


def one_hot_draw(logits: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Draw one-hot levels from softmax(logits), shape (..., width), by Gumbel's trick."""
    tiny = torch.finfo(torch.float32).tiny
    gumbel = -torch.log(-torch.log(uniform.clamp(min=tiny)))
    return torch.nn.functional.one_hot((logits + gumbel).argmax(-1), logits.shape[-1]).to(logits.dtype)


def sample_data(output: torch.Tensor, decoders: FoldedDecoders, draws: Draws) -> torch.Tensor:
    """Draw x from p(x | z) for decoder outputs (..., D): Gaussian values and one-hot levels."""
    x = torch.zeros_like(output)
    kinds = decoders.layout.kinds
    normal = draws.normal(tuple(output.shape), output) if "numerical" in kinds else None
    uniform = draws.uniform(tuple(output.shape), output) if "categorical" in kinds else None
    for group in decoders.layout.groups(output.device):
        if normal is not None and group.kind == "numerical":
            mean = gather_group(output, group, 0.0)
            scale = gather_group(decoders.log_scale, group, 0.0).exp()
            values = mean + scale * gather_group(normal, group, 0.0)
        elif uniform is not None:
            values = one_hot_draw(gather_group(output, group, -torch.inf), gather_group(uniform, group, 0.5))
        real = group.columns < decoders.layout.n_columns
        x[..., group.columns[real]] = values[..., real]
    return x


def _decode_and_sum(
    mean: torch.Tensor,
    scale: torch.Tensor,
    context: torch.Tensor | None,
    decoders: FoldedDecoders,
    n_samples: int,
    draws: Draws,
) -> tuple[torch.Tensor, torch.Tensor]:
    layout = decoders.layout
    total = mean.new_zeros(mean.shape[0], layout.n_columns)
    square = torch.zeros_like(total)
    for begin in range(0, n_samples, BLOCK):
        count = min(BLOCK, n_samples - begin)
        noise = draws.normal((count * mean.numel(),), mean).view(count, *mean.shape)
        _, output = decoders.decode(mean + scale * noise, context)
        x = _draw_levels(output, decoders, draws)  # [S', N, D]
        total += x.sum(0)
        square += (x**2).sum(0)
    moment = total / n_samples
    variance = (square / n_samples - moment**2).clamp(min=0)
    if "numerical" in layout.kinds:
        numerical = torch.tensor([kind == "numerical" for kind in layout.kinds], device=mean.device)
        sigma = decoders.log_scale.exp() * numerical[layout.column_attribute(mean.device)]
        return _add_gaussian_noise(moment, variance, sigma, n_samples, draws)
    return moment, variance


def _draw_levels(output: torch.Tensor, decoders: FoldedDecoders, draws: Draws) -> torch.Tensor:
    """Outputs (..., D) of numerical columns as they are, one-hot levels drawn for the categorical ones."""
    if "categorical" not in decoders.layout.kinds:
        return output
    x = output.clone()
    uniform = draws.uniform(tuple(output.shape), output)
    for group in decoders.layout.groups(output.device):
        if group.kind == "categorical":
            levels = one_hot_draw(gather_group(output, group, -torch.inf), gather_group(uniform, group, 0.5))
            real = group.columns < decoders.layout.n_columns
            x[..., group.columns[real]] = levels[..., real]
    return x


def _add_gaussian_noise(
    moment: torch.Tensor, variance: torch.Tensor, sigma: torch.Tensor, n_samples: int, draws: Draws
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn the moments (N, D) of outputs into those of samples; sigma (D,) is 0 in categorical columns."""
    along_mean, along_output, left = draws.normal((3, *moment.shape), moment)
    freedom = max(n_samples - 2, 0)
    chi_squared = 2 * draws.gamma(freedom // 2, tuple(moment.shape), moment) + freedom % 2 * left**2
    added = 2 * sigma * (n_samples * variance).sqrt() * along_output + sigma**2 * (along_output**2 + chi_squared)
    moment = moment + sigma * along_mean / math.sqrt(n_samples)
    if n_samples == 1:
        return moment, torch.zeros_like(variance)
    return moment, (variance + added / n_samples).clamp(min=0)


Tensors = list[torch.Tensor]


def _reference(
    mean: torch.Tensor,
    scale: torch.Tensor,
    context: torch.Tensor | None,
    mask_weight: Tensors,
    mask_bias: Tensors,
    mask_activation: list[bool],
    data_weight: Tensors,
    data_bias: Tensors,
    data_activation: list[bool],
    log_scale: torch.Tensor,
    attribute_start: list[int],
    attribute_kind: list[int],
    negative_slope: float,
    n_samples: int,
    seed: int,
    number: int,
    n_threads: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    del n_threads  # torch's own setting counts here
    decoders = unflatten(
        mask_weight, mask_bias, mask_activation, data_weight, data_bias, data_activation, log_scale,
        attribute_start, attribute_kind, negative_slope,
    )  # fmt: skip
    draws = StreamDraws(seed)
    draws.number = number
    return _decode_and_sum(mean, scale, context, decoders, n_samples, draws)


def _fake(
    mean: torch.Tensor,
    scale: torch.Tensor,
    context: torch.Tensor | None,
    mask_weight: Tensors,
    mask_bias: Tensors,
    mask_activation: list[bool],
    data_weight: Tensors,
    *rest: object,
) -> tuple[torch.Tensor, torch.Tensor]:
    moment = mean.new_empty(mean.shape[0], data_weight[-1].shape[0])
    return moment, torch.empty_like(moment)


def _cpu(
    mean: torch.Tensor,
    scale: torch.Tensor,
    context: torch.Tensor | None,
    mask_weight: Tensors,
    mask_bias: Tensors,
    mask_activation: list[bool],
    data_weight: Tensors,
    data_bias: Tensors,
    data_activation: list[bool],
    log_scale: torch.Tensor,
    attribute_start: list[int],
    attribute_kind: list[int],
    negative_slope: float,
    n_samples: int,
    seed: int,
    number: int,
    n_threads: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    moment, variance = _fake(mean, scale, context, mask_weight, mask_bias, mask_activation, data_weight)
    address = Addresses()

    def layers(weight: Tensors, bias: Tensors, activation: list[bool]) -> list[_native.FoldedLayer]:
        return [
            _native.FoldedLayer(address(w), address(b), w.shape[1], w.shape[0], a)
            for w, b, a in zip(weight, bias, activation, strict=True)
        ]

    _native.sample_moments(
        attribute_start, attribute_kind, mean.shape[0], mean.shape[1], address(mean), address(scale), address(context),
        layers(mask_weight, mask_bias, mask_activation), layers(data_weight, data_bias, data_activation),
        address(log_scale), negative_slope, n_samples, seed % 2**64, number, moment.data_ptr(), variance.data_ptr(),
        n_threads,
    )  # fmt: skip
    return moment, variance


OP = Op(
    "sample_moments(Tensor mean, Tensor scale, Tensor? context, Tensor[] mask_weight, Tensor[] mask_bias, "
    "bool[] mask_activation, Tensor[] data_weight, Tensor[] data_bias, bool[] data_activation, Tensor log_scale, "
    "int[] attribute_start, int[] attribute_kind, float negative_slope, int n_samples, int seed, int number, "
    "int n_threads) -> (Tensor, Tensor)",
    _reference,
    _fake,
    _cpu,
)


@torch.no_grad()
def sample_moments(
    mean: torch.Tensor,
    scale: torch.Tensor,
    decoders: FoldedDecoders,
    *,
    n_samples: int,
    draws: Draws,
    context: torch.Tensor | None = None,
    backend: str = "auto",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw samples of x from the current model and return their first two moments.

    Parameters
    ----------
    mean, scale : torch.Tensor, shape (N, L)
        The proposal.
    decoders : FoldedDecoders
        In evaluation mode; no gradient reaches them.
    n_samples : int
        ``S``, 100 in the paper.
    draws : Draws
        The kernel draws from the streams of :class:`~vsae_fast.ops.draws.StreamDraws`; numbers of a torch generator
        are for the reference alone.
    context : torch.Tensor, shape (N, C), optional
        Added to the data decoder's first layer.
    backend : {"auto", "cpu", "reference"}

    Returns
    -------
    moment : torch.Tensor, shape (N, D)
        Means of numerical columns, class frequencies of categorical ones.
    variance : torch.Tensor, shape (N, D)
        Population variance of the samples (used for numerical columns only).

    Raises
    ------
    ValueError
        Shapes, dtypes or devices that do not fit each other, no samples, or a backend that cannot run on these.
    """
    shape = (mean.shape[0], decoders.n_latent)
    n_context = decoders.data_layers[0].weight.shape[0]
    check_like(mean, {"mean": (mean, shape), "scale": (scale, shape), "context": (context, (mean.shape[0], n_context))})
    if n_samples < 1:
        raise ValueError(f"n_samples must be at least 1, got {n_samples}")
    run = OP.select(backend, mean)
    if not isinstance(draws, StreamDraws):
        if backend == "cpu":
            raise ValueError("backend='cpu' of sample_moments draws from StreamDraws; use backend='reference'")
        return _decode_and_sum(mean, scale, context, decoders, n_samples, draws)
    number = draws.number
    kinds = set(decoders.layout.kinds)
    draws.number += -(-n_samples // BLOCK) * (1 + ("categorical" in kinds)) + 2 * ("numerical" in kinds)
    layers = (*decoders.data_layers, decoders.output)
    moment, variance = run(
        mean,
        scale,
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
        n_samples,
        draws.seed,
        number,
        torch.get_num_threads(),
    )
    return moment, variance
