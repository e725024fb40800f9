"""From encoded rows to expected values: proposals, shared noise, importance sampling in chunks of rows."""

from __future__ import annotations

import logging
import math
from functools import lru_cache

import torch

from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.vsae import VSAE
from vsae_fast.noise import FILL, latent_noise, standard_normal
from vsae_fast.ops.importance_impute import PRECISIONS, Imputation, importance_impute
from vsae_fast.ops.propose import Proposals, propose
from vsae_fast.ops.registry import resolve
from vsae_fast.ops.stopping import SEGMENT

logger = logging.getLogger("vsae_fast")

# Memory beside the result is O(chunk), whatever N and K; narrow tables take more rows, so that calls are few.
CHUNK_ROWS, CHUNK_FLOATS, MOST_CHUNK_ROWS = 2048, 1 << 19, 1 << 14
# A GPU wants more rows at once, but not more than so many values of a row's segments of samples (not measured).
CHUNK_ROWS_ON_GPU, CHUNK_FLOATS_ON_GPU = 1 << 16, 1 << 27

# A table follows from its name, and making it takes as long as imputing a row with it: those of an ensemble are kept
# for the next call. Nobody writes to them.
noise_table = lru_cache(maxsize=32)(latent_noise)


def chunk_rows(device: torch.device, n_samples: int, n_columns: int) -> int:
    """Rows that are imputed at once."""
    if device.type == "cpu":
        return min(max(CHUNK_FLOATS // n_columns, CHUNK_ROWS), MOST_CHUNK_ROWS)
    of_row = n_columns * math.ceil(n_samples / SEGMENT)
    return min(max(CHUNK_FLOATS_ON_GPU // of_row, CHUNK_ROWS), CHUNK_ROWS_ON_GPU)


def check_fills(n_fills: int, config: NetworkConfig) -> None:
    """Raise ValueError where several noise fills are asked of a network whose holes are not filled with noise."""
    if n_fills > 1 and config.fill != "noise":
        raise ValueError(
            f"n_fills={n_fills} needs a network whose holes are filled with noise, and this one's are filled with "
            "zeros; use n_fills=1 or preset='paper'"
        )


class RowImputer:
    """A trained model ready to impute rows; a row's result depends on nothing but the row.

    Noise is shared by all rows, and the kernels compute every row alone. Where plain PyTorch runs, the encoders take
    double precision: differences between batch shapes vanish when their result is rounded to single precision.

    Parameters
    ----------
    model : VSAE
        In evaluation mode.
    seed : int
        Of the noise table.
    n_samples : int
        ``K``.
    visible_weight : float
        Exponent of p(x_o | z).
    sampler : {"iid", "antithetic", "sobol"}
        Where the noise of the samples comes from.
    n_fills : int
        Noise fills of a row's holes; each gives a proposal of its own and an equal share of the samples, whose number
        is rounded up to a multiple.
    tolerance : float
        Share of a value's predicted spread at which its standard error lets the row stop sampling; 0 never stops.
    backend : {"auto", "cpu", "cuda", "triton", "reference"}
        Of encoders and sampling.
    precision : {"tf32", "bfloat16"}
        Of the sampling's products with ``"triton"``; the encoders' are in tf32.
    n_threads : int, optional
    """

    def __init__(
        self,
        model: VSAE,
        *,
        seed: int,
        n_samples: int,
        visible_weight: float = 1.0,
        sampler: str = "iid",
        n_fills: int = 1,
        tolerance: float = 0.0,
        backend: str = "auto",
        precision: str = PRECISIONS[0],
        n_threads: int | None = None,
    ) -> None:
        check_fills(n_fills, model.config)
        parameter = model.decoders.raw_scale
        self._device = parameter.device
        self.layout = model.layout
        kernel = resolve(backend, torch.float32, self._device) != "reference"
        self._encoders = model.folded_encoders(torch.float32 if kernel else torch.float64)
        self._decoders = model.folded(torch.float32)
        n_samples = math.ceil(n_samples / n_fills) * n_fills
        self._noise = noise_table(sampler, seed, (n_samples, model.n_latent)).to(self._device)
        fill = standard_normal(seed, FILL, (n_fills, model.layout.n_columns))
        self._fill = fill.to(self._encoders.head.weight) if model.config.fill == "noise" else None
        self._visible_weight = visible_weight
        self._tolerance = tolerance
        self._backend, self._precision = backend, precision
        self._n_threads = n_threads
        # At once; halved where a device runs out of memory.
        self.chunk_rows = chunk_rows(self._device, n_samples, model.layout.n_columns)

    @torch.no_grad()
    def run(
        self,
        x: torch.Tensor,
        mask: torch.Tensor,
        *,
        n_draws: int = 0,
        row_id: torch.Tensor | None = None,
        seed: int = 0,
        tolerance_factor: float = 1.0,
    ) -> Imputation:
        """Impute rows.

        Parameters
        ----------
        x : torch.Tensor of float32, shape (N, D)
        mask : torch.Tensor of float32, shape (N, M)
            1 = observed.
        n_draws : int
            Rows to draw from p(x_u | x_o, m), by sampling-importance-resampling.
        row_id : torch.Tensor of int64, shape (N,), optional
            Number of each row, with ``n_draws``; a row's draws depend on its number, ``seed`` and the row alone.
        seed : int
            Of the draws.
        tolerance_factor : float
            Of the tolerance, for this call.

        Returns
        -------
        Imputation
            On the CPU.
        """
        parts: list[Imputation] = []
        start = 0
        while start < len(x) or not parts:
            rows = slice(start, start + self.chunk_rows)
            try:
                own = None if row_id is None else row_id[rows]
                parts.append(self._chunk(x[rows], mask[rows], n_draws, own, seed, tolerance_factor))
            except torch.OutOfMemoryError:  # of a GPU; rows are imputed alone, so that a cut changes nothing
                if self.chunk_rows == 1:
                    raise
                self.chunk_rows = self.chunk_rows // 2
                logger.warning("out of memory; going on with %d rows at a time", self.chunk_rows)
                continue
            start += self.chunk_rows
        if len(parts) == 1:
            return parts[0]
        return Imputation(*(torch.cat(fields) for fields in zip(*parts, strict=True)))

    def _chunk(
        self,
        x: torch.Tensor,
        mask: torch.Tensor,
        n_draws: int,
        row_id: torch.Tensor | None,
        seed: int,
        tolerance_factor: float,
    ) -> Imputation:
        x, mask = x.to(self._device), mask.to(self._device)
        proposals = self._proposals(x, mask)
        result = importance_impute(
            proposals.mean.float(),
            proposals.scale.float(),
            x,
            mask,
            self._noise,
            self._decoders,
            context=None if proposals.context is None else proposals.context.float(),
            visible_weight=self._visible_weight,
            tolerance=tolerance_factor * self._tolerance,
            n_draws=n_draws,
            row_id=None if row_id is None else row_id.to(self._device),
            seed=seed,
            n_threads=self._n_threads,
            backend=self._backend,
            precision=self._precision,
        )
        return Imputation(*(field.cpu() for field in result))

    def _proposals(self, x: torch.Tensor, mask: torch.Tensor) -> Proposals:
        dtype = self._encoders.head.weight.dtype
        return propose(
            x.to(dtype),
            mask.to(dtype),
            self._encoders,
            fill=self._fill,
            n_threads=self._n_threads,
            backend=self._backend if dtype == x.dtype else "reference",
        )

    @torch.no_grad()
    def latent_means(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Mean of each row's proposals of z over the fills of its holes, float32 of shape (N, L), on the CPU."""
        means: torch.Tensor = self._proposals(x.to(self._device), mask.to(self._device)).mean
        return means.mean(1).float().cpu()
