"""Code paths of GPUs on a stand-in for one, which computes on the CPU and refuses what a GPU refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils import backend_registration

from tests.test_cuda import needs_gpu
from vsae_fast import VSAEImputer

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch takes no backends in Python",
)
def test_another_device():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/other_device/cases.py"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:]


@needs_gpu
@pytest.mark.gpu
def test_a_tensor_on_the_gpu_comes_back_there(generator):
    x = torch.randn(60, 3, generator=generator).cuda()
    x[::3, 1] = torch.nan
    completed = VSAEImputer(epochs=2, n_models=1, random_state=0).fit_transform(x)
    assert completed.device == x.device
    observed = ~torch.isnan(x)
    assert torch.equal(completed[observed], x[observed])
    assert not torch.isnan(completed).any()
