"""What the kernels score observed numbers by: targets that a linear map of the last hidden vector should hit.

A numerical attribute counts ``|(t - W h) / scale|^2`` with ``t = x - b``. Of a wide one only what the map can reach
depends on h: with ``Q R = W / scale`` the kernels score ``|Q'(t / scale) - R h|^2``, H numbers in place of its columns
(:class:`vsae_fast.ops.folded_decoders.WideLikelihood`). The rest is added to the log-evidence with the normalising
constants.
"""

from __future__ import annotations

from functools import cached_property
from itertools import accumulate

import torch

from vsae_fast.ops.elbo import HALF_LOG_TWO_PI
from vsae_fast.ops.folded_decoders import FoldedDecoders


class Scoring:
    """Scored numbers of a model, attribute by attribute in their order.

    Parameters
    ----------
    decoders : FoldedDecoders
    """

    def __init__(self, decoders: FoldedDecoders) -> None:
        self._decoders = decoders
        self._wide = {likelihood.attribute: likelihood for likelihood in decoders.wide_likelihoods}

    @cached_property
    def starts(self) -> list[int]:
        """First scored number of each attribute, and how many there are; categories have none."""
        n_hidden, layout = self._decoders.output.weight.shape[1], self._decoders.layout
        counts = [
            0 if kind == "categorical" else n_hidden if attribute in self._wide else width
            for attribute, (kind, width) in enumerate(zip(layout.kinds, layout.widths, strict=True))
        ]
        return [0, *accumulate(counts)]

    def weight(self) -> torch.Tensor:
        """Rows of the map, (scored, H)."""
        output = self._decoders.output
        parts = [output.weight[:0]]
        for attribute, columns in self._numerical():
            wide = self._wide.get(attribute)
            parts.append(output.weight[columns] if wide is None else wide.triangle)
        return torch.cat(parts)

    def inverse_scale(self) -> torch.Tensor:
        """What distances from the targets are multiplied with, (scored,); 1 where the map has the scale in it.

        In the map itself it would be one more rounding of every weight.
        """
        log_scale = self._decoders.log_scale
        parts = [log_scale[:0]]
        for attribute, columns in self._numerical():
            wide = self._wide.get(attribute)
            parts.append(torch.exp(-log_scale[columns]) if wide is None else wide.triangle.new_ones(len(wide.triangle)))
        return torch.cat(parts)

    def targets(self, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Targets (N, scored), and what the log-likelihood of observed numbers has beside the distances, float64 (N,).

        That is normalising constants, and half of the squared distances that no h reaches. Targets of unobserved
        attributes are not to be read.
        """
        targets = x.new_empty(x.shape[0], self.starts[-1])
        constant = x.new_zeros(x.shape[0], dtype=torch.float64)
        for attribute, columns in self._numerical():
            own = x[:, columns] - self._decoders.output.bias[columns]
            log_scale = self._decoders.log_scale[columns].double()
            beside = -(log_scale + HALF_LOG_TWO_PI).sum()
            if attribute in self._wide:
                projection = self._wide[attribute].projection.double()
                scaled = own * torch.exp(-log_scale)
                own = scaled @ projection
                beside = beside - 0.5 * (scaled - own @ projection.t()).square().sum(1)
            constant += torch.where(mask[:, attribute] > 0, beside, 0.0)
            targets[:, self.starts[attribute] : self.starts[attribute + 1]] = own
        return targets, constant

    def _numerical(self) -> list[tuple[int, slice]]:
        layout = self._decoders.layout
        spans = enumerate(zip(layout.kinds, layout.starts, layout.starts[1:], strict=False))
        return [(attribute, slice(a, b)) for attribute, (kind, a, b) in spans if kind == "numerical"]
