"""The noise that imputation shares between rows, from streams that do not change between versions.

Numbers come from Philox 4x64 raw words, whose stream NumPy guarantees, through the normal quantile function; NumPy's
and torch's own normal streams carry no such guarantee. Sobol points take the direction numbers of Joe and Kuo (2008)
from torch and their scrambling from the same words. The scheme's name is stored in model files.

Tables of the samplers "antithetic" and "sobol" are mirrored: half of the samples, all but a rest, are negatives of
others, so that what is odd in them averages out and the C++ kernel computes the first layer of a sample and its image
once. In every 8 samples the second four are the images of the first (csrc/core/sample_order.h).
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch
from scipy.special import ndtri

from vsae_fast.ops.stopping import SEGMENT

SCHEME = "philox4x64-ndtri-4"
# Model files of these are read: before 3 and 4 images stood elsewhere, before 2 some were points of their own, and
# imputations differ by their Monte-Carlo errors.
SCHEMES = ("philox4x64-ndtri-1", "philox4x64-ndtri-2", "philox4x64-ndtri-3", SCHEME)

Sampler = Literal["iid", "antithetic", "sobol"]
SAMPLERS: tuple[str, ...] = get_args(Sampler)
LATENT, FILL = 0, 1  # independent streams of one seed
SOBOL_BITS = 30  # of torch's points

Words = np.ndarray[Any, np.dtype[np.uint32]]
Words64 = np.ndarray[Any, np.dtype[np.uint64]]


def _raw_words(seed: int, stream: int, count: int) -> Words64:
    return np.random.Philox(key=np.array([seed, stream], dtype=np.uint64)).random_raw(count)


def standard_normal(seed: int, stream: int, shape: tuple[int, int]) -> torch.Tensor:
    """Standard normal numbers, shape ``shape``, float32.

    The first rows of a longer table equal a shorter table of the same seed and width.
    """
    words = _raw_words(seed, stream, shape[0] * shape[1])
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    uniform = np.minimum(uniform, 1 - 2.0**-53)  # the largest word rounds to 1
    return torch.from_numpy(ndtri(uniform).astype(np.float32)).view(shape)


def latent_noise(sampler: str, seed: int, shape: tuple[int, int]) -> torch.Tensor:
    """Noise of the importance samples, shape (K, L), float32; each row of the table is standard normal.

    Parameters
    ----------
    sampler : {"iid", "antithetic", "sobol"}
        Independent samples; independent ones and their negatives; or scrambled Sobol points (Owen 1997), whose averages
        converge faster, and their negatives.
    seed : int
    shape : tuple of int
        ``(K, L)``.

    Raises
    ------
    ValueError
        Unknown sampler, or more latent dimensions than there are Sobol sequences.

    Examples
    --------
    >>> latent_noise("antithetic", 0, (16, 3)).sum(0).abs() < 1e-6
    tensor([True, True, True])
    """
    check_sampler(sampler)
    n_samples, n_latent = shape
    if sampler == "iid":
        return standard_normal(seed, LATENT, shape)
    original = mirror_images(n_samples)
    own = original == torch.arange(n_samples)
    n_own = int(own.sum())
    table = torch.empty(shape)
    if sampler == "sobol":
        table[own] = _sobol_normal(seed, n_own, n_latent)
    else:
        table[own] = standard_normal(seed, LATENT, (n_own, n_latent))
    table[~own] = -table[original[~own]]
    return table


def mirror_images(n_samples: int) -> torch.Tensor:
    """Number of the sample that each sample of a mirrored table is the negative of, its own where of none, (K,).

    Examples
    --------
    >>> mirror_images(11).tolist()
    [0, 1, 2, 3, 0, 1, 2, 3, 8, 9, 10]
    """
    sample, half = torch.arange(n_samples), SEGMENT // 2
    return torch.where(sample % SEGMENT < half, sample, sample - half)


def check_sampler(sampler: str) -> None:
    """Raise ValueError unless ``sampler`` is a known name."""
    if sampler not in SAMPLERS:
        raise ValueError(f"unknown sampler {sampler!r}; use one of {', '.join(map(repr, SAMPLERS))}")


def _sobol_normal(seed: int, n_samples: int, n_latent: int) -> torch.Tensor:
    engine = torch.quasirandom.SobolEngine
    if n_latent > engine.MAXDIM:
        raise ValueError(
            f"sampler='sobol' reaches {engine.MAXDIM} latent dimensions and the model has {n_latent}; "
            "use sampler='antithetic'"
        )
    unscrambled = engine(n_latent)  # type: ignore[no-untyped-call]
    points = unscrambled.draw(n_samples, dtype=torch.float64).numpy()  # multiples of 2^-30
    # Points stand in the middle of the finest intervals that the scrambling permutes, not anywhere in them: a lone
    # point far out in the tail of a proposal would get a weight that stands for too much. On white_wine it divides the
    # error of the imputed mean by four and shifts the log-evidence by 0.002 nats; both vanish as K grows.
    n_digits = max((n_samples - 1).bit_length(), 1)
    digits = (points * 2.0**SOBOL_BITS).astype(np.uint32) << np.uint32(32 - SOBOL_BITS)
    keys = (_raw_words(seed, LATENT, n_latent) >> np.uint64(32)).astype(np.uint32)
    interval = _scramble(digits, keys) >> np.uint32(32 - n_digits)
    uniform = (interval.astype(np.float64) + 0.5) * 2.0**-n_digits
    return torch.from_numpy(ndtri(uniform).astype(np.float32))


def _scramble(digits: Words, keys: Words) -> Words:
    """Owen's nested uniform scrambling by the hash of Laine and Karras, constants of Burley (2020), a key a column."""
    x = _reverse_bits(digits)
    x = x ^ (x * np.uint32(0x3D20ADEA))
    x = (x + keys) * ((keys >> np.uint32(16)) | np.uint32(1))
    x = x ^ (x * np.uint32(0x05526C56))
    x = x ^ (x * np.uint32(0x53A22864))
    return _reverse_bits(x)


def _reverse_bits(x: Words) -> Words:
    for shift, pattern in ((16, 0x0000FFFF), (8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
        s, low = np.uint32(shift), np.uint32(pattern)
        x = ((x >> s) & low) | ((x & low) << s)
    return x
