"""The numbers of csrc/cuda/dense.h, and how many samples or rows a block takes at once."""

from __future__ import annotations

from collections.abc import Callable

THREADS, MOST_OUTPUTS, CHUNK = 128, 64, 16  # kThreads, kMostOutputs and kChunk
TILES = (64, 32, 16, 8)  # samples or rows at once; the more, the less often weights are read ...
SHARED_BYTES = 48 * 1024  # what every device since Pascal gives a block
THREE_BLOCKS = (32, 32 * 1024)  # ... but down to this many, rather have three blocks in 96 KiB (not measured)


def choose_tile(shared_bytes: Callable[[int], int], most: int = TILES[0]) -> int | None:
    """Largest tile that leaves room for three blocks, or that fits at all; None where none does.

    Parameters
    ----------
    shared_bytes : callable
        Shared memory of a block for a tile.
    most : int
        No larger tile.
    """
    fewest, limit = THREE_BLOCKS
    allowed = [tile for tile in TILES if tile <= most]
    for tile in allowed:
        if tile >= fewest and shared_bytes(tile) <= limit:
            return tile
    return next((tile for tile in allowed if shared_bytes(tile) <= SHARED_BYTES), None)
