import os
from pathlib import Path

# OpenMP's threads sleep while they wait, here and in every process that a test starts: where they spin beside other
# work, as in CI, the small operations of eager references take many times as long. Set before torch loads OpenMP.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Nothing is reported to Ray's makers from tests. And the thread that collects it outlives the cluster: it fails every
# ten seconds and formats the traceback, which parses source; where a later test parses some just then, as Triton does,
# Python 3.11 ends one of the two with "SystemError: AST constructor recursion depth mismatch" (cpython#106905).
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import numpy as np
import pytest
import torch

from tests.early_processes import EarlyProcesses
from vsae_fast import _native

DATA_VARIABLE = "VSAE_FAST_DATA"
EARLY = pytest.StashKey[EarlyProcesses]()


def pytest_collection_finish(session):
    if not session.config.option.collectonly:
        session.stash[EARLY] = EarlyProcesses(session.items)


def pytest_sessionfinish(session):
    if EARLY in session.stash:
        session.stash[EARLY].stop()


@pytest.fixture
def early(request):
    """How the process that the test names by ``@pytest.mark.early`` ended."""
    return request.session.stash[EARLY].wait(request.node)


@pytest.fixture(autouse=True, scope="session")
def _two_threads():
    torch.set_num_threads(2)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def data_dir():
    """Folder of the real data sets; tests that need it skip where it is absent."""
    folder = Path(os.environ.get(DATA_VARIABLE) or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"real data sets are not here; point {DATA_VARIABLE} at their folder")
    return folder


@pytest.fixture(params=_native.cpu_levels())
def level(request, monkeypatch):
    """Every instruction set of this machine in turn."""
    monkeypatch.setenv("VSAE_FAST_CPU", request.param)
    return request.param
