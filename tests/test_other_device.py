"""Code paths of GPUs on a stand-in for one, which computes on the CPU and refuses what a GPU refuses."""

import sys

import pytest
import torch
from torch.utils import backend_registration

from tests.test_cuda import needs_gpu
from vsae_fast import VSAEImputer

CASES = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/other_device/cases.py"]


@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch takes no backends in Python",
)
@pytest.mark.early(CASES, {"OMP_NUM_THREADS": "1"})
def test_another_device(early):
    assert early.returncode == 0, early.output[-3000:]


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
