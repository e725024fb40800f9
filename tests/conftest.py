import os
from pathlib import Path

import numpy as np
import pytest
import torch

DATA_VARIABLE = "VSAE_FAST_DATA"


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
