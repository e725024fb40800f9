"""What the current model expects of the unobserved attributes: phase 2 of appendix D.

For s = 1..S: ``z_s ~ q(z | x_o, m)``. The paper draws ``x_s ~ p(x | z_s)`` too and averages the bound over the samples;
here that average is taken in closed form, sample by sample of z. The bound is linear in the one-hot levels and in the
first two moments of the numbers, so that its gradient has the same expectation and less variance.

Samples come in quartets: one draw of noise with four combinations of signs, of its first and its second half of
latents. Both decoders begin with a linear layer, whose products four samples share, and in either half odd terms of the
sampling error cancel.

The result is the mean of ``E[x | z_s]`` and the variance of numbers, reduced to what the bound needs: columns of one
attribute share their scale, so that the mean of their variances will do. Samples are decoded in small blocks: nothing
of size N x S x D is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from vsae_fast import _native
from vsae_fast.ops.draws import Draws, StreamDraws
from vsae_fast.ops.folded_decoders import FoldedDecoders, unflatten
from vsae_fast.ops.importance_impute import expected_value
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.ops.registry import Addresses, Op, check_like

BLOCK = 8  # samples drawn at once: kSamplesPerBlock of csrc/cpu/sample_moments.cpp
QUARTET, ROWS = 4, 16  # samples of one draw of noise, rows side by side in it: csrc/core/training_step.h


def _decode_and_sum(
    mean: torch.Tensor,
    scale: torch.Tensor,
    context: torch.Tensor | None,
    decoders: FoldedDecoders,
    n_samples: int,
    draws: Draws,
) -> tuple[torch.Tensor, torch.Tensor]:
    total = mean.new_zeros(mean.shape[0], decoders.layout.n_columns)
    square = torch.zeros_like(total)
    for noise in _noise(mean, n_samples, draws):
        _, output = decoders.decode(mean + scale * noise, context)
        expected = expected_value(output, decoders.layout)  # [S', N, D]
        total += expected.sum(0)
        square += (expected**2).sum(0)
    moment = total / n_samples
    spread = (square / n_samples - moment**2).clamp(min=0)
    return moment, _variance(spread, decoders)


def _noise(mean: torch.Tensor, n_samples: int, draws: Draws) -> Iterator[torch.Tensor]:
    """Standard normal numbers of the samples, (S', N, L) at a time, in quartets that differ by signs alone."""
    n_rows, n_latent = mean.shape
    n_groups = -(-n_rows // ROWS)
    sign = torch.where(torch.arange(n_latent, device=mean.device) < n_latent // 2, 1.0, -1.0).to(mean.dtype)
    for begin in range(0, n_samples, BLOCK):
        count = min(BLOCK, n_samples - begin)
        drawn = draws.normal((-(-count // QUARTET), n_groups, n_latent, ROWS), mean)
        noise = drawn.movedim(-1, -2).reshape(len(drawn), -1, n_latent)[:, :n_rows]
        yield torch.stack([noise, -noise, noise * sign, -noise * sign], 1).flatten(0, 1)[:count]


def _variance(spread: torch.Tensor, decoders: FoldedDecoders) -> torch.Tensor:
    """Variance of numbers from that of their expected values over the samples; 0 in categorical columns."""
    layout = decoders.layout
    variance = _mean_over_attribute(spread, layout) + (2 * decoders.log_scale).exp()
    return variance * layout.numerical_columns(spread.device)


def _mean_over_attribute(value: torch.Tensor, layout: AttributeLayout) -> torch.Tensor:
    """Mean over each attribute's columns in every one of them, (N, D) to (N, D)."""
    attribute = layout.column_attribute(value.device)
    total = value.new_zeros(value.shape[0], layout.n_attributes).index_add_(1, attribute, value)
    return (total / layout.attribute_widths(value.device))[:, attribute]


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


def _on_gpu(
    backend: str,
    mean: torch.Tensor,
    scale: torch.Tensor,
    decoders: FoldedDecoders,
    *,
    n_samples: int,
    draws: Draws,
    context: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    if backend == "cuda":
        from vsae_fast.cuda.sample_moments import sample_moments
    else:
        from vsae_fast.tensor_core.sample_moments import sample_moments

    noise = torch.cat(list(_noise(mean, n_samples, draws)))
    moment, spread = sample_moments(mean, scale, noise, context, decoders)
    return moment, _variance(spread, decoders)


OP = Op(
    "sample_moments(Tensor mean, Tensor scale, Tensor? context, Tensor[] mask_weight, Tensor[] mask_bias, "
    "bool[] mask_activation, Tensor[] data_weight, Tensor[] data_bias, bool[] data_activation, Tensor log_scale, "
    "int[] attribute_start, int[] attribute_kind, float negative_slope, int n_samples, int seed, int number, "
    "int n_threads) -> (Tensor, Tensor)",
    _reference,
    _fake,
    _cpu,
    cuda=partial(_on_gpu, "cuda"),
    triton=partial(_on_gpu, "triton"),
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
    """Mean and variance of x under the current model, over samples of z.

    Parameters
    ----------
    mean, scale : torch.Tensor, shape (N, L)
        The proposal.
    decoders : FoldedDecoders
        In evaluation mode; no gradient reaches them.
    n_samples : int
        ``S``, 100 in the paper.
    draws : Draws
        The C++ kernel draws from the streams of :class:`~vsae_fast.ops.draws.StreamDraws` itself; numbers of a torch
        generator are for the others.
    context : torch.Tensor, shape (N, C), optional
        Added to the data decoder's first layer.
    backend : {"auto", "cpu", "cuda", "triton", "reference"}

    Returns
    -------
    moment : torch.Tensor, shape (N, D)
        Means of numerical columns, class probabilities of categorical ones.
    variance : torch.Tensor, shape (N, D)
        Of numerical columns: population variance of their decoded means plus the variance of p(x | z), the mean over
        the columns of their attribute in each of them; 0 in categorical columns.

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
    if run in OP.on_gpu.values():
        moment, variance = run(mean, scale, decoders, n_samples=n_samples, draws=draws, context=context)
        return moment, variance
    if not isinstance(draws, StreamDraws):
        if backend == "cpu":
            raise ValueError("backend='cpu' of sample_moments draws from StreamDraws; use backend='reference'")
        return _decode_and_sum(mean, scale, context, decoders, n_samples, draws)
    number = draws.number
    draws.number += -(-n_samples // BLOCK)
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
