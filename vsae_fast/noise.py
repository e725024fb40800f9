"""The noise that imputation shares between rows, from a stream that does not change between versions.

Numbers come from Philox 4x64 raw words, whose stream NumPy guarantees, through the normal quantile function; NumPy's
and torch's own normal streams carry no such guarantee. The scheme's name is stored in model files.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import ndtri

SCHEME = "philox4x64-ndtri-1"

LATENT, FILL = 0, 1  # independent streams of one seed


def standard_normal(seed: int, stream: int, shape: tuple[int, int]) -> torch.Tensor:
    """Standard normal numbers, shape ``shape``, float32.

    The first rows of a longer table equal a shorter table of the same seed and width.
    """
    words = np.random.Philox(key=np.array([seed, stream], dtype=np.uint64)).random_raw(shape[0] * shape[1])
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53  # in (0, 1), never 0 or 1
    return torch.from_numpy(ndtri(uniform).astype(np.float32)).view(shape)
