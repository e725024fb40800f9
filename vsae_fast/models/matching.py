"""Comparisons at equal size: a baseline with at least as many parameters as the VSAE that it stands beside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import nn

from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.vsae import VSAE
from vsae_fast.ops.layout import AttributeLayout


def n_parameters(model: nn.Module) -> int:
    """Trainable numbers of a model."""
    return sum(parameter.numel() for parameter in model.parameters())


def widened(
    build: Callable[[AttributeLayout, NetworkConfig], nn.Module], layout: AttributeLayout, config: NetworkConfig
) -> NetworkConfig:
    """Smallest configuration with which a baseline has at least as many parameters as the VSAE (appendix D).

    All encoders grow by one factor, in hundredths; decoders and latents stay as they are.

    Parameters
    ----------
    build : callable
        Makes the baseline of a layout and a configuration.
    layout : AttributeLayout
    config : NetworkConfig
        Of the VSAE.

    Examples
    --------
    >>> from vsae_fast.models.vae import VAE
    >>> layout, config = AttributeLayout(("numerical",) * 4, (1,) * 4), NetworkConfig()
    >>> n_parameters(VAE(layout, widened(VAE, layout, config))) >= n_parameters(VSAE(layout, config))
    True
    """
    goal = n_parameters(VSAE(layout, config))
    factor = 100
    while n_parameters(build(layout, _scaled(config, factor))) < goal:
        factor = factor + max(factor // 50, 1)
    return _scaled(config, factor)


def _scaled(config: NetworkConfig, hundredths: int) -> NetworkConfig:
    def scale(widths: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(-(-width * hundredths // 100) for width in widths)

    return replace(
        config,
        numerical_hidden=scale(config.numerical_hidden),
        categorical_hidden=scale(config.categorical_hidden),
        collective_hidden=scale(config.collective_hidden),
    )
