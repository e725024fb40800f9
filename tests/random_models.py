"""Random decoders and inputs for kernel tests: fresh, never zeros."""

from dataclasses import dataclass
from itertools import pairwise

import torch

from vsae_fast.noise import mirror_images
from vsae_fast.ops.folded_decoders import DenseLayer, FoldedDecoders
from vsae_fast.ops.layout import AttributeLayout

NUMERICAL_12 = AttributeLayout(("numerical",) * 12, (1,) * 12)
CATEGORICAL = AttributeLayout(("categorical",) * 5, (2, 5, 3, 12, 2))
APART = AttributeLayout(("numerical", "categorical", "categorical"), (16, 40, 3))  # each kind in cache lines of its own
MIXED = AttributeLayout(("categorical", "numerical", "categorical", "numerical", "numerical"), (3, 1, 7, 1, 4))
ONE_NUMBER = AttributeLayout(("numerical",), (1,))
ONE_CATEGORY = AttributeLayout(("categorical",), (3,))
MANY = AttributeLayout(("numerical",) * 71, (1,) * 71)  # more attributes than one log of the mask's product takes


@dataclass
class Case:
    decoders: FoldedDecoders
    mean: torch.Tensor
    scale: torch.Tensor
    x: torch.Tensor
    mask: torch.Tensor
    noise: torch.Tensor
    context: torch.Tensor | None = None

    def arguments(self, dtype):
        """Arguments of importance_impute; float32 values in every dtype, so that only the arithmetic differs."""
        tensors = [t.float().to(dtype) for t in (self.mean, self.scale, self.x, self.mask, self.noise)]
        decoders = self.decoders.to(torch.float32, torch.device("cpu")).to(dtype, torch.device("cpu"))
        context = None if self.context is None else self.context.float().to(dtype)
        return (*tensors, decoders), {"context": context}


def random_layer(n_out, n_in, activation, generator):
    weight = torch.randn(n_out, n_in, generator=generator, dtype=torch.float64) / n_in**0.5
    return DenseLayer(weight, 0.1 * torch.randn(n_out, generator=generator, dtype=torch.float64), activation)


def random_decoders(layout, generator, *, n_latent=None, mask_widths=(16, 16, 16), data_widths=(64,)):
    n_latent = n_latent or 2 * layout.n_attributes

    def stack(n_in, widths, n_out):
        sizes = (n_in, *widths, n_out)
        return tuple(random_layer(b, a, i < len(widths), generator) for i, (a, b) in enumerate(pairwise(sizes)))

    *hidden, output = stack(n_latent + layout.n_attributes, data_widths, layout.n_columns)
    log_scale = 0.3 * torch.randn(layout.n_attributes, generator=generator, dtype=torch.float64)
    return FoldedDecoders(
        stack(n_latent, mask_widths, layout.n_attributes),
        tuple(hidden),
        output,
        log_scale[layout.column_attribute(torch.device("cpu"))],
        layout,
    )


def random_rows(layout, n_rows, generator, observed=0.5):
    x = torch.randn(n_rows, layout.n_columns, generator=generator, dtype=torch.float64)
    for attribute, kind in enumerate(layout.kinds):
        if kind == "categorical":
            begin, end = layout.starts[attribute], layout.starts[attribute + 1]
            codes = torch.randint(0, end - begin, (n_rows,), generator=generator)
            x[:, begin:end] = torch.nn.functional.one_hot(codes, end - begin).double()
    mask = (torch.rand(n_rows, layout.n_attributes, generator=generator) < observed).double()
    return x, mask


def random_case(layout, n_rows, n_samples, *, seed=0, observed=0.5, context=False, mirrored=False, **decoder_options):
    generator = torch.Generator().manual_seed(seed)
    decoders = random_decoders(layout, generator, **decoder_options)
    x, mask = random_rows(layout, n_rows, generator, observed)

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    scale = torch.rand(n_rows, decoders.n_latent, generator=generator, dtype=torch.float64) + 0.1
    width = decoders.data_layers[0].weight.shape[0]
    mean, noise = randn(n_rows, decoders.n_latent), randn(n_samples, decoders.n_latent)
    if mirrored:
        original = mirror_images(n_samples)
        noise = torch.where((original == torch.arange(n_samples)).unsqueeze(1), noise, -noise[original])
    return Case(
        decoders,
        mean,
        scale,
        x,
        mask,
        noise,
        randn(n_rows, width) if context else None,
    )
