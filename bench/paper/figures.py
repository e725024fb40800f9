"""Figures 5 to 7: imputed digits, generated pairs, several imputations of one digit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from bench.paper import sets
from bench.paper.cells import Cell, Scale, model_name
from bench.paper.deep import known_cells
from vsae_fast.models.vsae import VSAE
from vsae_fast.ops.importance_impute import log_weights
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.presets import paper
from vsae_fast.table.encode import encode
from vsae_fast.table.schema import Schema, detect_schema

CELL = Cell("mnist_pairs", "MCAR", 0.5, "VSAE", 0)
N_DIGITS, N_PAIRS, N_REPEATS = 12, 12, 8

Array = np.ndarray[Any, np.dtype[np.float32]]


def model_path(scale: Scale, folder: Path) -> Path:
    """File of the network that the figures are drawn with."""
    return folder / f"{model_name(CELL, scale)}.safetensors"


class Drawn:
    """The trained network of MNIST+MNIST and its test rows."""

    def __init__(self, scale: Scale, data_folder: str | None, folder: Path) -> None:
        self.data = sets.load(*CELL[:3], CELL.seed, data_folder, scale.n_rows)
        known, observed = known_cells(self.data.train, self.data.train_mask)
        self.schema: Schema = detect_schema(known.columns(), observed)
        layout: AttributeLayout = self.schema.layout()
        self.model = VSAE(layout, paper(layout).network)
        self.model.load_state_dict(load_file(model_path(scale, folder)))
        self.model.eval()
        self.generator = torch.Generator().manual_seed(0)
        self.n_samples = scale.n_samples

    def encoded(self, rows: Any, seen: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Test rows of which one attribute alone is observed."""
        blocks = {name: block[rows].astype(np.float32) for name, block in self.data.test.items()}
        mask = np.zeros((len(rows), len(blocks)), dtype=bool)
        mask[:, seen] = True
        table, observed = known_cells(blocks, mask)
        x, m, _ = encode(self.schema, table.columns(), observed)
        return torch.from_numpy(x), torch.from_numpy(m)

    def images(self, x: torch.Tensor, attribute: int) -> Array:
        """Pixels from 0 to 1 of one attribute, shape (N, 28, 28)."""
        column = self.schema.columns[attribute]
        width = column.width
        pixels = x[:, attribute * width : (attribute + 1) * width].numpy() * column.std + np.asarray(column.centre)
        return np.clip(pixels.reshape(-1, *column.shape) / 255, 0, 1)


def imputed(drawn: Drawn) -> tuple[list[Array], list[str]]:
    """Figure 5: observed images, hidden ones, and what the model makes of the hidden ones."""
    rows = np.arange(N_DIGITS)
    x, mask = drawn.encoded(rows, seen=0)
    noise = torch.randn(drawn.n_samples, drawn.model.n_latent, generator=drawn.generator)
    result = drawn.model.impute(x, mask, noise, fill_noise=torch.randn(x.shape, generator=drawn.generator))
    first, second = (drawn.data.test[name][rows] / np.float32(255) for name in ("first", "second"))
    return [first, second, drawn.images(result.imputed, 1)], ["observed", "hidden", "imputed"]


def generated(drawn: Drawn) -> tuple[list[Array], list[str]]:
    """Figure 6: decoded means of latents drawn from the prior, whose pairs should belong together."""
    z = torch.randn(N_PAIRS, drawn.model.n_latent, generator=drawn.generator)
    with torch.no_grad():
        _, output = drawn.model.decode(z)
    return [drawn.images(output, 0), drawn.images(output, 1)], ["first", "second"]


def repeated(drawn: Drawn) -> tuple[list[Array], list[str]]:
    """Figure 7: eight imputations of one hidden digit, each the mean given one latent drawn by its weight."""
    rows = np.arange(6)
    x, mask = drawn.encoded(rows, seen=0)
    shown = [drawn.data.test["first"][rows] / np.float32(255)]
    for _ in range(N_REPEATS):
        # One importance sample is the proposal itself: q(z | x_o, m) without weights would ignore the observed image.
        noise = torch.randn(drawn.n_samples, drawn.model.n_latent, generator=drawn.generator)
        shown.append(drawn.images(_one_latent(drawn.model, x, mask, noise, drawn.generator), 1))
    return shown, ["observed", *[""] * N_REPEATS]


@torch.no_grad()
def _one_latent(
    model: VSAE, x: torch.Tensor, mask: torch.Tensor, noise: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Conditional mean given one latent, resampled by the importance weights, shape (N, D)."""
    proposal = model.encode(x, mask, torch.randn(x.shape, generator=generator))
    z = proposal.sample(noise.unsqueeze(1))  # [K, N, L]
    mask_logits, output = model.decode(z)
    log_w = log_weights(z, 0.5 * (noise**2).sum(-1), x, mask, mask_logits, output, model.folded(), 1.0)
    chosen = torch.multinomial(torch.softmax(log_w.t(), -1), 1, generator=generator)[:, 0]
    picked: torch.Tensor = output[chosen, torch.arange(len(x))]
    return picked


Maker = Callable[[Drawn], tuple[list[Array], list[str]]]
FIGURES: dict[str, Maker] = {"figure5": imputed, "figure6": generated, "figure7": repeated}


def draw(name: str, scale: Scale, data_folder: str | None, folder: Path) -> Path:
    """Draw one figure as a grid of images; return its path."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    images, labels = FIGURES[name](Drawn(scale, data_folder, folder))
    if name == "figure7":  # one row for each digit
        images, labels = [np.stack(row) for row in zip(*images, strict=True)], [""] * len(images[0])
    figure, axes = plt.subplots(len(images), len(images[0]), figsize=(0.7 * len(images[0]) + 1, 0.75 * len(images)))
    for line, own, label in zip(axes, images, labels, strict=True):
        for axis, image in zip(line, own, strict=True):
            axis.imshow(image, cmap="gray_r", vmin=0, vmax=1)
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    figure.savefig(path, dpi=150, bbox_inches="tight")
    plt.close(figure)
    return path
