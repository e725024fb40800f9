"""Incomplete tables as tensors, and random mini-batches of them."""

from __future__ import annotations

import pandas as pd
import torch

from bench.accuracy.encoding import Encoding


def as_tensors(encoding: Encoding, table: pd.DataFrame) -> tuple[torch.Tensor, torch.Tensor]:
    """Matrix with zeros in the holes, and its mask (1 = observed), both (N, D)."""
    x = torch.from_numpy(encoding.encode(table)).float()
    return x.nan_to_num(0.0), (~x.isnan()).float()


def random_rows(n_rows: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Row numbers of a mini-batch, drawn with replacement."""
    return torch.randint(n_rows, (min(size, n_rows),), generator=generator)
