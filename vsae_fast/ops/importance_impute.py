"""Self-normalised importance sampling of the unobserved attributes (Gong et al. 2021, section 3.4).

::

    z_k     = mean + scale * noise_k,   k = 1..K
    log w_k = c log p(x_o | z_k, m) + log p(m | z_k) + log N(z_k; 0, I) - log q(z_k | x_o, m)
    imputed = sum_k softmax(log w)_k E[x | z_k],   log evidence = log mean_k w_k,   ESS = (sum w)^2 / sum w^2

Draws of x_u come from sampling-importance-resampling (Rubin 1987): ``z_k`` with probability ``softmax(log w)_k``, then
``x_u ~ p(x_u | z_k)``.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch

from vsae_fast import _native
from vsae_fast.ops.elbo import data_log_likelihood, mask_log_likelihood
from vsae_fast.ops.folded_decoders import FoldedDecoders, unflatten
from vsae_fast.ops.layout import AttributeLayout, gather_group
from vsae_fast.ops.philox import uniforms
from vsae_fast.ops.registry import Addresses, Op, check_like, resolve
from vsae_fast.ops.resampling import choose, draw_given, resample
from vsae_fast.ops.stopping import LOOK, SEGMENT, SEGMENTS_PER_LOOK, predicted_spreads, segments_needed

PRECISIONS = ("tf32", "bfloat16")


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
    n_spent : torch.Tensor of int32, shape (N,)
        Samples that the row took: K unless a tolerance stopped it.
    draws : torch.Tensor, shape (N, n_draws, D)
        Complete rows drawn from p(x_u | x_o, m): values, and one-hot levels.
    """

    imputed: torch.Tensor
    log_evidence: torch.Tensor
    effective_size: torch.Tensor
    n_spent: torch.Tensor
    draws: torch.Tensor


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


def _samples_spent(
    log_w: torch.Tensor, value: torch.Tensor, unit: torch.Tensor, n_proposals: int, tolerance: float
) -> torch.Tensor:
    """Samples of each proposal after which every standard error is small enough, shape (N,).

    ``unit`` (N, D), the spread given z, is infinite where nothing is unobserved.
    """
    per_proposal = log_w.shape[0] // n_proposals
    n_segments = per_proposal // LOOK * SEGMENTS_PER_LOOK
    weight = torch.exp(log_w - log_w.max(0).values).view(n_proposals, per_proposal, -1)  # [P, K/P, N]
    weight = weight[:, : n_segments * SEGMENT].reshape(n_proposals, n_segments, SEGMENT, -1)
    shape = (n_proposals, per_proposal, *value.shape[1:])
    value = value.view(shape)[:, : n_segments * SEGMENT].reshape(*weight.shape, -1)
    own = weight.sum((0, 2))  # [B, N]
    own_square = (weight**2).sum((0, 2))  # [B, N]
    total = (weight.unsqueeze(-1) * value).sum((0, 2))  # [B, N, D]
    needed = segments_needed(own, own_square, total, unit, tolerance)
    return torch.where(needed > 0, needed * SEGMENT, per_proposal)


def _reference(
    mean: torch.Tensor,
    scale: torch.Tensor,
    x: torch.Tensor,
    mask: torch.Tensor,
    noise: torch.Tensor,
    context: torch.Tensor | None,
    row_id: torch.Tensor | None,
    mask_weight: list[torch.Tensor],
    mask_bias: list[torch.Tensor],
    mask_activation: list[bool],
    data_weight: list[torch.Tensor],
    data_bias: list[torch.Tensor],
    data_activation: list[bool],
    log_scale: torch.Tensor,
    wide_attribute: list[int],
    wide_triangle: list[torch.Tensor],
    wide_projection: list[torch.Tensor],
    attribute_start: list[int],
    attribute_kind: list[int],
    negative_slope: float,
    visible_weight: float,
    tolerance: float,
    n_draws: int,
    seed: int,
    n_threads: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    del n_threads  # torch's own setting counts here
    del wide_attribute, wide_triangle, wide_projection  # another way to the same likelihood
    decoders = unflatten(
        mask_weight, mask_bias, mask_activation, data_weight, data_bias, data_activation, log_scale,
        attribute_start, attribute_kind, negative_slope,
    )  # fmt: skip
    n_samples, n_proposals = noise.shape[0], mean.shape[1]
    per_proposal = n_samples // n_proposals
    half_square = 0.5 * (noise**2).sum(-1)  # [K]
    n_chunk = decoders.rows_at_once(n_samples)
    parts = []
    for begin in range(0, max(mean.shape[0], 1), n_chunk):
        rows = slice(begin, begin + n_chunk)
        of_proposals = []
        for p in range(n_proposals):
            own = slice(p * per_proposal, (p + 1) * per_proposal)
            z = mean[rows, p] + scale[rows, p] * noise[own].unsqueeze(1)  # [K / P, N, L]
            mask_logits, output = decoders.decode(z, None if context is None else context[rows, p])
            log_w = log_weights(z, half_square[own], x[rows], mask[rows], mask_logits, output, decoders, visible_weight)
            of_proposals.append((log_w + scale[rows, p].log().sum(-1), output))
        log_w, output = (torch.cat(fields) for fields in zip(*of_proposals, strict=True))  # [K, N], [K, N, D]
        value = expected_value(output, decoders.layout)
        observed = decoders.layout.expand(mask[rows]) > 0
        spent = torch.full(log_w.shape[1:], n_samples, dtype=torch.int32, device=x.device)
        if tolerance > 0:
            unit = predicted_spreads(decoders, mask[rows])
            each = _samples_spent(log_w, value, unit, n_proposals, tolerance)
            position = torch.arange(n_samples, device=x.device).unsqueeze(-1) % per_proposal
            log_w = torch.where(position < each, log_w, -math.inf)
            spent = (each * n_proposals).to(torch.int32)
        weight = torch.softmax(log_w, 0)
        imputed = torch.where(observed, x[rows], (weight.unsqueeze(-1) * value).sum(0))
        draws = x.new_empty(imputed.shape[0], 0, x.shape[1])
        if row_id is not None and n_draws:
            uniform = uniforms(seed, row_id[rows], n_draws, x.shape[1] + 2)
            chosen = choose(log_w.t().contiguous(), uniform[..., 0])  # [N, J]
            output = output[chosen, torch.arange(output.shape[1], device=output.device).unsqueeze(-1)]  # [N, J, D]
            draws = draw_given(output, decoders, uniform[..., 2:])
            draws = torch.where(observed.unsqueeze(1), x[rows].unsqueeze(1), draws)
        total = torch.logsumexp(log_w, 0) - spent.to(log_w.dtype).log()
        parts.append((imputed, total.double(), 1 / (weight.double() ** 2).sum(0), spent, draws))
    imputed, evidence, size, spent, draws = (torch.cat(fields) for fields in zip(*parts, strict=True))
    return imputed, evidence, size, spent, draws


def _fake(
    mean: torch.Tensor,
    scale: torch.Tensor,
    x: torch.Tensor,
    mask: torch.Tensor,
    noise: torch.Tensor,
    context: torch.Tensor | None,
    row_id: torch.Tensor | None,
    mask_weight: list[torch.Tensor],
    mask_bias: list[torch.Tensor],
    mask_activation: list[bool],
    data_weight: list[torch.Tensor],
    data_bias: list[torch.Tensor],
    data_activation: list[bool],
    log_scale: torch.Tensor,
    wide_attribute: list[int],
    wide_triangle: list[torch.Tensor],
    wide_projection: list[torch.Tensor],
    attribute_start: list[int],
    attribute_kind: list[int],
    negative_slope: float,
    visible_weight: float,
    tolerance: float,
    n_draws: int,
    seed: int,
    n_threads: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    per_row = x.new_empty(x.shape[0], dtype=torch.float64)
    spent = x.new_empty(x.shape[0], dtype=torch.int32)
    draws = x.new_empty(x.shape[0], n_draws, x.shape[1])
    return x.new_empty(x.shape), per_row, torch.empty_like(per_row), spent, draws  # contiguous even where x is not


def _cpu(
    mean: torch.Tensor,
    scale: torch.Tensor,
    x: torch.Tensor,
    mask: torch.Tensor,
    noise: torch.Tensor,
    context: torch.Tensor | None,
    row_id: torch.Tensor | None,
    mask_weight: list[torch.Tensor],
    mask_bias: list[torch.Tensor],
    mask_activation: list[bool],
    data_weight: list[torch.Tensor],
    data_bias: list[torch.Tensor],
    data_activation: list[bool],
    log_scale: torch.Tensor,
    wide_attribute: list[int],
    wide_triangle: list[torch.Tensor],
    wide_projection: list[torch.Tensor],
    attribute_start: list[int],
    attribute_kind: list[int],
    negative_slope: float,
    visible_weight: float,
    tolerance: float,
    n_draws: int,
    seed: int,
    n_threads: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    imputed = x.new_empty(x.shape)  # contiguous even where x is not
    log_evidence, effective_size = (x.new_empty(x.shape[0], dtype=torch.float64) for _ in range(2))
    n_spent = x.new_empty(x.shape[0], dtype=torch.int32)
    draws = x.new_empty(x.shape[0], n_draws, x.shape[1])
    address = Addresses()

    def layers(weight: list[torch.Tensor], bias: list[torch.Tensor], activation: list[bool]) -> list[_native.Layer]:
        return [
            _native.Layer(address(w), address(b), w.shape[1], w.shape[0], a)
            for w, b, a in zip(weight, bias, activation, strict=True)
        ]

    arguments = _native.ImportanceImputeArguments()
    arguments.mean, arguments.scale, arguments.x = address(mean), address(scale), address(x)
    arguments.mask, arguments.noise = address(mask), address(noise)
    arguments.context, arguments.row_id = address(context), address(row_id, torch.int64)
    arguments.mask_layers = layers(mask_weight, mask_bias, mask_activation)
    arguments.data_layers = layers(data_weight[:-1], data_bias[:-1], data_activation[:-1])
    arguments.output_weight, arguments.output_bias = address(data_weight[-1]), address(data_bias[-1])
    arguments.log_scale = address(log_scale)
    arguments.wide = [
        _native.WideLikelihood(attribute, address(triangle), address(projection))
        for attribute, triangle, projection in zip(wide_attribute, wide_triangle, wide_projection, strict=True)
    ]
    arguments.attribute_start, arguments.attribute_kind = attribute_start, attribute_kind
    arguments.n_rows, arguments.n_proposals, arguments.n_latent = mean.shape
    arguments.n_samples, arguments.n_draws, arguments.seed = noise.shape[0], n_draws, seed % 2**64
    arguments.negative_slope, arguments.visible_weight = negative_slope, visible_weight
    arguments.tolerance = tolerance
    arguments.imputed = imputed.data_ptr()
    arguments.log_evidence, arguments.effective_size = log_evidence.data_ptr(), effective_size.data_ptr()
    arguments.n_spent, arguments.draws = n_spent.data_ptr(), draws.data_ptr()
    _native.importance_impute(arguments, n_threads)
    return imputed, log_evidence, effective_size, n_spent, draws


OnGpu = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]  # imputed, evidence, effective size, spent


def _cuda(*arguments: Any, **options: Any) -> OnGpu:
    from vsae_fast.cuda.importance_impute import importance_impute

    return importance_impute(*arguments, **options)


def _triton(*arguments: Any, **options: Any) -> OnGpu:
    from vsae_fast.tensor_core.importance_impute import importance_impute

    return importance_impute(*arguments, **options)


OP = Op(
    "importance_impute(Tensor mean, Tensor scale, Tensor x, Tensor mask, Tensor noise, Tensor? context, "
    "Tensor? row_id, Tensor[] mask_weight, Tensor[] mask_bias, bool[] mask_activation, "
    "Tensor[] data_weight, Tensor[] data_bias, bool[] data_activation, Tensor log_scale, "
    "int[] wide_attribute, Tensor[] wide_triangle, Tensor[] wide_projection, "
    "int[] attribute_start, int[] attribute_kind, float negative_slope, float visible_weight, float tolerance, "
    "int n_draws, int seed, int n_threads) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _reference,
    _fake,
    _cpu,
    _cuda,
    _triton,
)


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
    tolerance: float = 0.0,
    n_draws: int = 0,
    row_id: torch.Tensor | None = None,
    seed: int = 0,
    n_threads: int | None = None,
    backend: str = "auto",
    precision: str = "tf32",
) -> Imputation:
    """Impute rows from their proposals.

    Parameters
    ----------
    mean, scale : torch.Tensor, shape (N, L) or (N, P, L)
        Mean and standard deviation of each row's proposal, or of its ``P`` proposals (one per noise fill); each of
        those takes an equal run of the samples.
    x : torch.Tensor, shape (N, D)
        Encoded data; what stands in unobserved columns is never read.
    mask : torch.Tensor, shape (N, M)
        1 = observed.
    noise : torch.Tensor, shape (K, L)
        Standard normal; shared by all rows, so that a row's result does not depend on its neighbours.
    decoders : FoldedDecoders
    context : torch.Tensor, shape (N, C) or (N, P, C), optional
        Added to the data decoder's first layer before its activation.
    visible_weight : float
        Exponent of p(x_o | z); 1 in the paper.
    tolerance : float
        A row stops sampling once the standard error of each of its imputed values is at most this share of the value's
        predicted spread: the column's learned standard deviation (1 for a probability) and the spread among samples
        together. 0 never stops.
    n_draws : int
        Draws of x_u for each row.
    row_id : torch.Tensor of int64, shape (N,), optional
        Names each row's random numbers, so that draws do not depend on how rows are batched; ``0..N-1`` where it is
        left out.
    seed : int
        Of the draws.
    n_threads : int, optional
        Of the C++ kernel; torch's own setting where it is left out.
    backend : {"auto", "cpu", "cuda", "triton", "reference"}
    precision : {"tf32", "bfloat16"}
        Of the products of ``"triton"``.

    Returns
    -------
    Imputation

    Raises
    ------
    ValueError
        Shapes that do not fit each other, no samples, or a backend that cannot run on these tensors.
    """
    mean, scale, context = _with_proposals(mean, scale, context)
    _check(mean, scale, x, mask, noise, decoders, context)
    if n_threads is None:
        n_threads = torch.get_num_threads()
    elif n_threads < 1:
        raise ValueError(f"n_threads must be at least 1, got {n_threads}")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be at least 0, got {tolerance}")
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; use one of {', '.join(map(repr, PRECISIONS))}")
    if n_draws < 0:
        raise ValueError(f"n_draws must be at least 0, got {n_draws}")
    if row_id is None and n_draws:
        row_id = torch.arange(x.shape[0], device=x.device)
    if row_id is not None and (row_id.shape != x.shape[:1] or row_id.dtype != torch.int64):
        raise ValueError(f"row_id must be int64 of shape ({x.shape[0]},), got {row_id.dtype} {tuple(row_id.shape)}")
    run = OP.select(backend, mean)
    chosen = resolve(backend, x.dtype, x.device)
    if chosen in OP.on_gpu:
        options = {"precision": precision} if chosen == "triton" else {}
        log_weight = x.new_empty(x.shape[0], noise.shape[0]) if n_draws else None
        imputed, evidence, size, spent = run(
            mean, scale, x, mask, noise, decoders, context=context, visible_weight=visible_weight,
            tolerance=tolerance, log_weight=log_weight, **options,
        )  # fmt: skip
        draws = x.new_empty(x.shape[0], 0, x.shape[1])
        if log_weight is not None and row_id is not None:
            draws = resample(
                log_weight, mean, scale, x, mask, noise, decoders, context=context, n_draws=n_draws, row_id=row_id,
                seed=seed,
            )  # fmt: skip
        return Imputation(imputed, evidence, size, spent, draws)
    layers = (*decoders.data_layers, decoders.output)
    wide = decoders.wide_likelihoods if backend != "reference" else ()
    result = run(
        mean,
        scale,
        x,
        mask,
        noise,
        context,
        row_id,
        [layer.weight for layer in decoders.mask_layers],
        [layer.bias for layer in decoders.mask_layers],
        [layer.activation for layer in decoders.mask_layers],
        [layer.weight for layer in layers],
        [layer.bias for layer in layers],
        [layer.activation for layer in layers],
        decoders.log_scale,
        [likelihood.attribute for likelihood in wide],
        [likelihood.triangle for likelihood in wide],
        [likelihood.projection for likelihood in wide],
        list(decoders.layout.starts),
        list(decoders.layout.kind_codes),
        decoders.negative_slope,
        visible_weight,
        tolerance,
        n_draws,
        seed,
        n_threads,
    )
    return Imputation(*result)


def _with_proposals(
    mean: torch.Tensor, scale: torch.Tensor, context: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Give every argument its axis of proposals."""

    def extended(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.unsqueeze(1) if tensor.dim() == 2 else tensor

    return extended(mean), extended(scale), None if context is None else extended(context)


def _check(
    mean: torch.Tensor,
    scale: torch.Tensor,
    x: torch.Tensor,
    mask: torch.Tensor,
    noise: torch.Tensor,
    decoders: FoldedDecoders,
    context: torch.Tensor | None,
) -> None:
    n_rows = x.shape[0]
    n_proposals = mean.shape[1] if mean.dim() == 3 else 1
    n_context = decoders.data_layers[0].weight.shape[0]
    expected = {
        "context": (context, (n_rows, n_proposals, n_context)),
        "x": (x, (n_rows, decoders.layout.n_columns)),
        "mask": (mask, (n_rows, decoders.layout.n_attributes)),
        "mean": (mean, (n_rows, n_proposals, decoders.n_latent)),
        "scale": (scale, (n_rows, n_proposals, decoders.n_latent)),
        "noise": (noise, (noise.shape[0], decoders.n_latent)),
    }
    check_like(x, expected)
    if noise.shape[0] < 1:
        raise ValueError("noise must hold at least one sample")
    if n_proposals < 1 or noise.shape[0] % n_proposals:
        raise ValueError(
            f"noise must hold a whole number of samples for each of {n_proposals} proposals, got {noise.shape[0]}"
        )
