"""Sizes and switches of a VSAE network, as plain data that a model file can hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class NetworkConfig:
    """Architecture of :class:`~vsae_fast.models.vsae.VSAE`; the defaults are the paper's (appendix C).

    Parameters
    ----------
    latent_per_attribute : int
        Latent dimensions in each attribute's block.
    numerical_hidden, categorical_hidden : tuple of int
        Hidden widths of the attributive encoders.
    collective_hidden : tuple of int
        Hidden widths of the collective encoder; the paper leaves them open.
    mask_hidden, data_hidden : tuple of int
        Hidden widths of the decoders; batch normalisation follows the first layer of each.
    linear_tail : bool
        No activation after the data decoder's hidden layers but the first, as the appendix prints it.
    skip : bool
        The collective network's last hidden vector is added to the data decoder's first layer, so that what the
        encoder knows does not have to pass through the latents alone.
    fill : {"noise", "zero"}
        What stands in the holes of the collective network's input; zero is the mean of a standardised column.
    min_scale : float
        Floor of the learned standard deviation of numerical columns, in standardised units. It keeps columns with
        spikes from buying unbounded likelihood.
    negative_slope : float
        Of LeakyReLU.
    """

    latent_per_attribute: int = 2
    numerical_hidden: tuple[int, ...] = (16, 16, 16)
    categorical_hidden: tuple[int, ...] = (64, 64, 64)
    collective_hidden: tuple[int, ...] = (64, 64, 64)
    mask_hidden: tuple[int, ...] = (16, 16, 16)
    data_hidden: tuple[int, ...] = (64, 64, 64)
    linear_tail: bool = True
    skip: bool = False
    fill: Literal["noise", "zero"] = "noise"
    min_scale: float = 0.01
    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        for name in ("numerical_hidden", "categorical_hidden", "collective_hidden", "mask_hidden", "data_hidden"):
            widths = tuple(getattr(self, name))
            object.__setattr__(self, name, widths)
            if not widths or min(widths) < 1:
                raise ValueError(f"{name} must be one or more positive widths, got {widths}")
        if self.latent_per_attribute < 1:
            raise ValueError(f"latent_per_attribute must be at least 1, got {self.latent_per_attribute}")
        if self.fill not in ("noise", "zero"):
            raise ValueError(f"fill must be 'noise' or 'zero', got {self.fill!r}")
