"""Code paths of GPUs on a stand-in for one, which computes on the CPU and refuses what a GPU refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration

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
