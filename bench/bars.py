"""What each measured case must reach (the bar) and is after (the aim); ``bench/tables.py`` compares."""

from __future__ import annotations

from typing import NamedTuple


class Bar(NamedTuple):
    """Ratios to the fastest eager candidate, and shares of the measured multiply-add peak where they count.

    ``limit`` says what stands in the way; it is printed where the bar is missed.
    """

    ratio: float
    aim: float
    share: float | None = None
    share_aim: float | None = None
    limit: str = ""


# Candidates of importance_impute: with the mirrored tables of the samplers "sobol", the default preset's, and
# "antithetic", and with iid samples.
OURS, INDEPENDENT = "C++ kernel", "C++ kernel, independent noise"

SMALL_BATCHES = (
    "The bar is held against the fastest batch size, sixteen rows at a time, whose activations stay in the "
    "second-level cache; against batches of 256 rows it is met (table below). Where the last column is below the bar, "
    "no kernel on this machine can meet it. Two thirds of the kernel's time are multiply-adds at the machine's full "
    "rate (three quarters with independent noise, which needs more of them), the rest short products' beginnings and "
    "ends, activations and exponentials. Larger tiles, smaller blocks of samples and tiles cut to the outputs that are "
    "left were tried and changed nothing."
)
BARS: dict[str, Bar] = {
    "paper network, 12 numbers": Bar(14, 18, 0.65, 0.85, SMALL_BATCHES),
    "paper network, 12 numbers, AVX2 only": Bar(
        9, 11, limit=f"{SMALL_BATCHES} Eager PyTorch takes AVX2 products in MKL on this processor in either suite."
    ),
    "22 categorical attributes": Bar(10, 15),
    "decoder 256-256 with context": Bar(
        2.5,
        4,
        0.75,
        0.90,
        "Both sides spend their time in products of one size, so the ratio is that of their shares of the peak, and "
        "MKL's is high in batches whose activations stay in the cache; against batches of 256 rows the bar is met. "
        "Where the last column is below the bar, no kernel on this machine can meet it. Cutting the inputs into runs "
        "that fit the first-level cache was tried and changed nothing.",
    ),
    "two images of 784 pixels": Bar(6, 12),
    "phase 1, batch 64": Bar(
        40,
        80,
        limit="On two threads a step takes 160 microseconds where the two processors share a third-level cache and 230 "
        "where the host has put them apart (the round trip of a cache line, below the table).",
    ),
    "phase 2, batch 64": Bar(
        40,
        80,
        limit="The 6,400 decoder passes of the sampled z take half of the step: 35 MFLOP and 38,400 normal numbers. "
        "The second pass runs beside them and the average over x_u is taken in closed form. On two threads a step "
        "takes 400 microseconds where the two processors share a third-level cache and 500 where the host has put "
        "them apart (the round trip of a cache line, below the table).",
    ),
    "importance-weighted, K = 10, width 128, batch 256": Bar(
        4,
        8,
        limit="Two thirds of the step are products at nine tenths of the peak, and eager PyTorch's are not much slower "
        "at this width: with products alone the ratio would be 6. On a quiet machine a step takes 2.7 ms where the two "
        "processors share a third-level cache and 3.6 ms where the host has put them apart (the round trip of a cache "
        "line, below the table).",
    ),
}
SOBOL_TO_IID = (0.7, 0.5)  # root mean squared error of the imputed mean, at most
WHOLE_IMPUTE_SECONDS = (90.0, 45.0)  # preset="paper" on white_wine, at most
