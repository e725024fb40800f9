"""From encoded rows to expected values: proposals, shared noise, importance sampling in chunks of rows."""

from __future__ import annotations

import copy

import torch

from vsae_fast.models.vsae import VSAE
from vsae_fast.noise import FILL, LATENT, standard_normal
from vsae_fast.ops.importance_impute import Imputation, importance_impute

CHUNK_ROWS = 2048  # memory beside the result is O(chunk), whatever N and K


class RowImputer:
    """A trained model ready to impute rows; a row's result depends on nothing but the row.

    Three things make it so: noise is shared by all rows; the kernel computes every row alone; and the encoders run in
    double precision, whose differences between batch shapes vanish when their result is rounded to single precision.
    Encoders run once a row and decoders K times, so the precision costs next to nothing.

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
    backend : {"auto", "cpu", "reference"}
    n_threads : int, optional
    """

    def __init__(
        self,
        model: VSAE,
        *,
        seed: int,
        n_samples: int,
        visible_weight: float = 1.0,
        backend: str = "auto",
        n_threads: int | None = None,
    ) -> None:
        parameter = model.decoders.raw_scale
        self._device = parameter.device
        self._encoder = copy.deepcopy(model).double().eval()
        self._decoders = model.folded(torch.float32)
        self._noise = standard_normal(seed, LATENT, (n_samples, model.n_latent)).to(self._device)
        fill = standard_normal(seed, FILL, (1, model.layout.n_columns))[0]
        self._fill = fill.double().to(self._device) if model.config.fill == "noise" else None
        self._visible_weight = visible_weight
        self._backend = backend
        self._n_threads = n_threads

    @torch.no_grad()
    def run(self, x: torch.Tensor, mask: torch.Tensor) -> Imputation:
        """Impute rows.

        Parameters
        ----------
        x : torch.Tensor of float32, shape (N, D)
        mask : torch.Tensor of float32, shape (N, M)
            1 = observed.

        Returns
        -------
        Imputation
            On the CPU.
        """
        parts = [self._chunk(x[i : i + CHUNK_ROWS], mask[i : i + CHUNK_ROWS]) for i in range(0, len(x), CHUNK_ROWS)]
        if not parts:
            empty = torch.empty(0, dtype=torch.float64)
            return Imputation(x.clone(), empty, empty.clone())
        return Imputation(*(torch.cat(fields) for fields in zip(*parts, strict=True)))

    def _chunk(self, x: torch.Tensor, mask: torch.Tensor) -> Imputation:
        x, mask = x.to(self._device), mask.to(self._device)
        proposal = self._encoder.encode(x.double(), mask.double(), self._fill)
        context = self._encoder.decoders.fold_context(proposal.hidden)
        result = importance_impute(
            proposal.mean.float(),
            proposal.scale.float(),
            x,
            mask,
            self._noise,
            self._decoders,
            context=None if context is None else context.float(),
            visible_weight=self._visible_weight,
            n_threads=self._n_threads,
            backend=self._backend,
        )
        return Imputation(*(field.cpu() for field in result))
