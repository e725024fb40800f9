"""Models, rows and arithmetic of the imputation benchmarks."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.vsae import VSAE
from vsae_fast.ops.folded_decoders import FoldedDecoders
from vsae_fast.ops.layout import AttributeLayout, Kind

LEVELS = (6, 4, 10, 2, 9, 2, 2, 2, 12, 2, 5, 4, 4, 9, 9, 4, 3, 5, 9, 6, 7, 2)  # of the mushroom table


def layout(kind: Kind, widths: tuple[int, ...]) -> AttributeLayout:
    """Attributes of one kind."""
    return AttributeLayout((kind,) * len(widths), widths)


@dataclass(frozen=True)
class Case:
    """What is imputed.

    Attributes
    ----------
    layout : AttributeLayout
    network : NetworkConfig
    n_samples : int
    n_rows : int
        Of a call of the kernel.
    eager_rows : tuple of int
        Rows that the eager twin takes at once, several sizes to choose the fastest from.
    """

    layout: AttributeLayout
    network: NetworkConfig = field(default_factory=NetworkConfig)
    n_samples: int = 1000
    n_rows: int = 2048
    eager_rows: tuple[int, ...] = (16, 64, 256)


PAPER = Case(layout("numerical", (1,) * 12), n_rows=4898)
CASES = {
    "paper network, 12 numbers": PAPER,
    "22 categorical attributes": Case(layout("categorical", LEVELS), n_rows=512, eager_rows=(4, 16, 64)),
    "decoder 256-256 with context": Case(
        layout("numerical", (1,) * 12),
        NetworkConfig(numerical_hidden=(16,), mask_hidden=(16,), data_hidden=(256, 256), linear_tail=False, skip=True),
        n_samples=200,
        n_rows=1024,
        eager_rows=(4, 16, 64, 256),
    ),
    "two images of 784 pixels": Case(
        layout("numerical", (784, 784)),
        NetworkConfig(latent_per_attribute=256, numerical_hidden=(16,), data_hidden=(128,)),
        n_rows=128,
        eager_rows=(1, 2, 4, 16),
    ),
}


def make_model(case: Case, generator: torch.Generator) -> VSAE:
    """Network with parameters and running statistics away from their initial values."""
    model = VSAE(case.layout, case.network).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "running_var" in name:
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            elif tensor.is_floating_point() and "raw_scale" not in name:
                tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator) / max(tensor.shape[-1] / 24, 1) ** 0.5)
    return model


def make_rows(case: Case, model: VSAE, n_rows: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Arguments of the eager twin and the kernel; half of the cells observed."""
    n_latent = model.n_latent

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    x = randn(n_rows, case.layout.n_columns)
    for a, kind in enumerate(case.layout.kinds):
        if kind == "categorical":
            code = torch.randint(case.layout.widths[a], (n_rows,), generator=generator)
            x[:, case.layout.starts[a] : case.layout.starts[a + 1]] = torch.eye(case.layout.widths[a])[code]
    mask = (torch.rand(n_rows, case.layout.n_attributes, generator=generator) < 0.5).float()
    return {
        "mean": 0.3 * randn(n_rows, n_latent),
        "scale": torch.rand(n_rows, n_latent, generator=generator) + 0.1,
        "x": x,
        "mask": mask,
        "hidden": randn(n_rows, case.network.collective_hidden[-1]),
    }


def flop_per_sample(decoders: FoldedDecoders, mask: torch.Tensor, *, mirrored: bool = False) -> float:
    """Operations that one sample of one row needs after folding, a multiply-add counted as two.

    With mirrored noise a sample and its image share the products of the latents.

    Dense layers, output rows of observed numbers, the triangle of observed images, the logits of all categories, and
    the weighted sum of the last hidden vector. Likelihood terms, exponentials and random numbers are not counted, so
    the share of the peak is a lower bound.
    """
    layers = [*decoders.mask_layers, *decoders.data_layers]
    products = float(sum(layer.weight.numel() for layer in layers))
    if mirrored:
        first = decoders.mask_layers[0].weight.shape[0] + decoders.data_layers[0].weight.shape[0]
        products -= 0.5 * first * decoders.n_latent
    hidden = decoders.output.weight.shape[1]
    wide = {likelihood.attribute for likelihood in decoders.wide_likelihoods}
    for a, (kind, width) in enumerate(zip(decoders.layout.kinds, decoders.layout.widths, strict=True)):
        if kind == "categorical":
            products += width * hidden
        else:
            own = hidden * (hidden + 1) / 2 if a in wide else width * hidden
            products += float(mask[:, a].mean()) * own
    return 2 * (products + hidden)
