"""Independent small networks of one shape, run as batched products: the attributive encoders (appendix C.1).

Layer l of network g, for the rows n in which attribute g is observed::

    a = h W[g] + b[g];   h' = LeakyReLU((a - mean) / sqrt(var + eps) * gamma[g] + beta[g])

and a linear head at the end. Batch statistics see only those rows; the other rows are computed with them too, but
nothing downstream uses their result.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

MIN_ROWS_FOR_STATISTICS = 2  # with one observed row the variance is 0 and the layer would forget its input


@dataclass
class BatchNormState:
    """Scale, shift and running statistics of one grouped layer, each of shape (G, H)."""

    weight: torch.Tensor
    bias: torch.Tensor
    running_mean: torch.Tensor
    running_var: torch.Tensor
    eps: float = 1e-5
    momentum: float = 0.1


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


def grouped_mlp(
    x: torch.Tensor,
    mask: torch.Tensor,
    weights: list[torch.Tensor],
    biases: list[torch.Tensor],
    norms: list[BatchNormState],
    training: bool,
    negative_slope: float = 0.01,
) -> torch.Tensor:
    """Run ``G`` networks side by side.

    Parameters
    ----------
    x : torch.Tensor, shape (N, G, I)
        Input of each network, zero-padded to the widest.
    mask : torch.Tensor, shape (N, G)
        1 = observed: the rows that batch statistics are taken over.
    weights, biases : list of torch.Tensor
        Shapes (G, I, H) and (G, H), a pair per layer; the last pair is the linear head.
    norms : list of BatchNormState
        One per layer but the last; their running statistics are updated in place in training.
    training : bool
    negative_slope : float

    Returns
    -------
    torch.Tensor, shape (N, G, O)
    """
    h = x.transpose(0, 1)  # [G, N, I]
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        h = torch.baddbmm(bias.unsqueeze(1), h, weight)  # [G, N, H]
        if layer < len(norms):
            h = masked_batch_norm(h.transpose(0, 1), mask, norms[layer], training).transpose(0, 1)
            h = torch.nn.functional.leaky_relu(h, negative_slope)
    return h.transpose(0, 1)
