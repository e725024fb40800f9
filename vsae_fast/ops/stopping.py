"""When a row has enough samples: standard errors from segments of them; see csrc/cpu/sampling_error.h."""

from __future__ import annotations

import math

import torch

from vsae_fast.ops.folded_decoders import FoldedDecoders

# Samples of a proposal in a segment, and between two looks at the standard error; also in csrc/core/sample_order.h.
SEGMENT, LOOK = 8, 16
SEGMENTS_PER_LOOK = LOOK // SEGMENT
# Where a sample or two carry all of the weight, segments agree because they hold nothing else: such rows go on.
LEAST_EFFECTIVE = 6


def predicted_spreads(decoders: FoldedDecoders, mask: torch.Tensor) -> torch.Tensor:
    """Spread of each unobserved value given z, infinite where observed, (N, D): the units of standard errors."""
    layout = decoders.layout
    spread = torch.where(layout.numerical_columns(mask.device), decoders.log_scale.exp(), 1.0)
    return torch.where(layout.expand(mask) > 0, math.inf, spread)


def segments_needed(
    weight: torch.Tensor,
    square: torch.Tensor,
    total: torch.Tensor,
    unit: torch.Tensor,
    tolerance: float,
    *,
    least: int = 1,
) -> torch.Tensor:
    """Segments, of whole looks, after which every standard error is at most ``tolerance`` predicted spreads.

    Errors are those of batch means.

    Parameters
    ----------
    weight, square : torch.Tensor, shape (B, N)
        Sums of each segment's weights and of their squares; the segments make whole looks.
    total : torch.Tensor, shape (B, N, D)
        Of weights times values.
    unit : torch.Tensor, shape (N, D)
        Spread of a value given z, infinite where nothing is unobserved.
    tolerance : float
    least : int
        Fewer are known not to suffice.

    Returns
    -------
    torch.Tensor of int64, shape (N,)
        0 where all of them do not suffice.
    """
    complete = torch.isinf(unit).all(-1)  # nothing to be uncertain of
    needed = torch.zeros(weight.shape[1], dtype=torch.int64, device=weight.device)
    for b in range(len(weight), least - 1, -SEGMENTS_PER_LOOK):
        w, s = weight[:b], total[:b]
        effective_size = w.sum(0) ** 2 / square[:b].sum(0)
        mean = s.sum(0) / w.sum(0).unsqueeze(-1)
        squares = ((s - mean * w.unsqueeze(-1)) ** 2).sum(0) * b / (b - 1)
        widened = 1 + 0.5 / (b - 1) + 1 / (3 * (b - 1) ** 2)  # Student's t with b - 1 degrees of freedom
        variance = (squares / (w.sum(0).unsqueeze(-1) * unit) ** 2).amax(-1)
        error = widened * (variance / (1 + variance * effective_size)).sqrt()
        error = torch.minimum(error, effective_size.rsqrt())  # the samples' spread is no more than the whole
        enough = (effective_size >= LEAST_EFFECTIVE) | complete
        needed = torch.where((error <= tolerance) & enough, b, needed)
    return needed
