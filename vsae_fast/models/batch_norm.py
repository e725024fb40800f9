"""Evaluation-mode batch normalisation folded into the linear layer before it."""

from __future__ import annotations

import torch
from torch import nn


def fold_norm(linear: nn.Module, norm: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias, in float64, of a linear layer followed by evaluation-mode batch normalisation."""
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    factor = norm_factor(norm)
    weight, bias = linear.get_parameter("weight").double(), linear.get_parameter("bias").double()
    return factor.unsqueeze(1) * weight, (bias - norm.running_mean.double()) * factor + norm.bias.double()


def norm_factor(norm: nn.BatchNorm1d) -> torch.Tensor:
    """What evaluation-mode batch normalisation multiplies its input by, float64."""
    assert norm.running_var is not None
    return norm.weight.double() * torch.rsqrt(norm.running_var.double() + norm.eps)
