"""What each measured case must reach (the bar) and is after (the aim); ``bench/tables.py`` compares."""

from __future__ import annotations

from typing import NamedTuple


class Bar(NamedTuple):
    """Ratios to the fastest eager candidate, and shares of the measured multiply-add peak where they count."""

    ratio: float
    aim: float
    share: float | None = None
    share_aim: float | None = None


BARS: dict[str, Bar] = {
    "paper network, 12 numbers": Bar(14, 18, 0.65, 0.85),
    "paper network, 12 numbers, AVX2 only": Bar(9, 11),
    "22 categorical attributes": Bar(10, 15),
    "decoder 256-256 with context": Bar(2.5, 4, 0.75, 0.90),
    "two images of 784 pixels": Bar(6, 12),
    "phase 1, batch 64": Bar(40, 80),
    "phase 2, batch 64": Bar(40, 80),
    "importance-weighted, K = 10, width 128, batch 256": Bar(4, 8),
}
SOBOL_TO_IID = (0.7, 0.5)  # root mean squared error of the imputed mean, at most
WHOLE_IMPUTE_SECONDS = (90.0, 45.0)  # preset="paper" on white_wine, at most
