"""Fuzz for a while; what fails is shrunk, printed and kept in tests/fuzz/corpus, whence it is tried first next time.

python -m tests.fuzz [TARGET ...] [--seconds S]
"""

import argparse
import faulthandler
import time
from pathlib import Path

import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from tests.fuzz.targets import SEEDS, TARGETS

CORPUS = Path(__file__).parent / "corpus"


def fuzz(name, seconds, max_examples=200):
    """Try the seeds, then inputs until the time is over; return how many."""
    work, inputs = TARGETS[name]
    for seed in SEEDS[name]:
        work(seed())
    count = len(SEEDS[name])

    @settings(
        max_examples=max_examples,
        deadline=None,
        database=DirectoryBasedExampleDatabase(CORPUS),
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    )
    @given(inputs)
    def attempt(data):
        nonlocal count
        count += 1
        work(data)

    end = time.monotonic() + seconds
    attempt()
    while time.monotonic() < end:
        attempt()
    return count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], default=[])
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    faulthandler.enable()  # a crash in a kernel tells where
    torch.set_num_threads(2)
    for name in arguments.targets or TARGETS:
        print(f"{name}: {fuzz(name, arguments.seconds):,} inputs", flush=True)


if __name__ == "__main__":
    main()
