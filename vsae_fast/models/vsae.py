"""The Variational Selective Autoencoder (Gong et al., AISTATS 2021)."""

from __future__ import annotations

import torch

from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.decoders import Decoders
from vsae_fast.models.encoders import AttributiveEncoders, CollectiveEncoder, GroupedEncoder
from vsae_fast.models.generation import sample_data
from vsae_fast.models.latent_model import LatentModel, Proposal, Rows
from vsae_fast.ops.draws import TorchDraws
from vsae_fast.ops.folded_encoders import FoldedEncoders
from vsae_fast.ops.layout import AttributeLayout


class VSAE(LatentModel):
    """Latent-variable model of heterogeneous, partially observed rows; ``mask`` is 1 where an attribute is observed.

    ``q(z_i)`` comes from attribute i's own encoder where it is observed and from the collective encoder where it is
    not.

    Parameters
    ----------
    layout : AttributeLayout
        Kinds and widths of the ``M`` attributes.
    config : NetworkConfig, optional
        The paper's architecture where it is left out.

    Notes
    -----
    Inputs are encoded rows ``x`` of shape (N, D) (standardised numbers, one-hot categories; anything finite where
    unobserved) and masks of shape (N, M). :class:`~vsae_fast.VSAEImputer` does the encoding for tables.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> model = VSAE(AttributeLayout(("numerical", "categorical"), (1, 3))).eval()
    >>> x, mask = torch.zeros(5, 4), torch.ones(5, 2)
    >>> model.encode(x, mask).mean.shape
    torch.Size([5, 4])
    """

    decoders: Decoders

    def __init__(self, layout: AttributeLayout, config: NetworkConfig | None = None) -> None:
        super().__init__(layout, config)
        self.attributive = AttributiveEncoders(layout, self.config)
        self.collective = CollectiveEncoder(layout, self.config)
        self.decoders = Decoders(layout, self.config)

    def encode(self, x: Rows, mask: torch.Tensor, noise: torch.Tensor | None = None) -> Proposal:
        """Propose latents; see :meth:`LatentModel.encode`."""
        x = self.layout.join(x)
        own_mean, own_log_variance = self.attributive(x, mask)  # [N, M, latent]
        mean, log_variance, hidden = self.collective(x, mask, noise)
        observed = (mask > 0).unsqueeze(-1)
        shape = own_mean.shape
        return Proposal(
            torch.where(observed, own_mean, mean.view(shape)).flatten(1),
            torch.where(observed, own_log_variance, log_variance.view(shape)).flatten(1),
            hidden,
        )

    @torch.no_grad()
    def folded_encoders(self, dtype: torch.dtype | None = None) -> FoldedEncoders:
        """Proposal networks in evaluation mode as :func:`vsae_fast.ops.propose.propose` takes them."""
        own = []
        for encoder in self.attributive.encoders:
            assert isinstance(encoder, GroupedEncoder)
            own.append(encoder.fold())
        body, head = self.collective.fold()
        context, slope = self.decoders.folded_context(), self.config.negative_slope
        parameter = self.decoders.raw_scale
        folded = FoldedEncoders(tuple(own), body, head, context, self.layout, slope)
        return folded.to(dtype or parameter.dtype, parameter.device)

    @torch.no_grad()
    def generate(
        self, n_samples: int, *, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw rows from the prior: z, then the mask, then the data.

        Parameters
        ----------
        n_samples : int
        generator : torch.Generator, optional

        Returns
        -------
        x : torch.Tensor, shape (n_samples, D)
            Complete rows (Gaussian values and one-hot levels).
        mask : torch.Tensor, shape (n_samples, M)
            1 = observed, drawn from the mask decoder.
        """
        self._require_evaluation("generate")
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1, got {n_samples}")
        parameter = self.decoders.raw_scale
        if generator is None:
            generator = torch.Generator(parameter.device)
            generator.seed()
        dtype, device = parameter.dtype, parameter.device
        z = torch.randn(n_samples, self.n_latent, generator=generator, dtype=dtype, device=device)
        # With a skip path the context of a row of which nothing is known stands in for the missing encoder pass.
        empty = torch.zeros(1, self.layout.n_columns, dtype=dtype, device=device)
        hidden = self.encode(empty, torch.zeros(1, self.layout.n_attributes, dtype=dtype, device=device)).hidden
        mask_logits, output = self.decode(z, hidden)
        x = sample_data(output, self.folded(), TorchDraws(generator))
        uniform = torch.rand(mask_logits.shape, generator=generator, dtype=dtype, device=device)
        return x, (uniform < mask_logits.sigmoid()).to(parameter.dtype)
