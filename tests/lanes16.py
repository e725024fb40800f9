"""Run the kernel tests with the AVX-512 kernels built from AVX2 instructions: 16 lanes on a machine without AVX-512.

python -m tests.lanes16
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pybind11

ROOT = Path(__file__).parents[1]
KERNEL_TESTS = ["test_importance_impute.py", "test_linear_gaussian.py", "test_native_training.py"]
FAST_ENOUGH = "not first_losses"  # emulation is slow; other tests of the trainer cover the kernels


def main() -> None:
    """Build into a copy of the package, so that the installed extension stays as it is, and test that copy."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        ignore = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(ROOT / "vsae_fast", copy / "vsae_fast", ignore=ignore)
        shutil.copytree(ROOT / "kernels", copy / "vsae_fast" / "kernels", ignore=ignore)
        shutil.copytree(ROOT / "tests", copy / "tests", ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", copy)
        configure = [
            "cmake", "-S", str(ROOT), "-B", str(copy / "build"), "-G", "Ninja", "-DVSAE_EMULATE_AVX512=ON",
            f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={copy / 'vsae_fast'}", *os.environ.get("CMAKE_ARGS", "").split(),
        ]  # fmt: skip
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        subprocess.run(configure, check=True, env=environment, stdout=subprocess.DEVNULL)
        subprocess.run(["cmake", "--build", str(copy / "build")], check=True, env=environment)
        environment["VSAE_FAST_CPU"] = "avx512"
        loaded = subprocess.run(
            [sys.executable, "-c", "from vsae_fast import _native; print(_native.__file__, _native.cpu_level())"],
            cwd=copy, env=environment, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        if not loaded.startswith(str(copy)) or loaded.split()[-1] != "avx512":
            raise SystemExit(f"the emulated build was not loaded: {loaded}")
        tests = [str(copy / "tests" / name) for name in KERNEL_TESTS]
        raise SystemExit(
            subprocess.run(
                [sys.executable, "-m", "pytest", "-k", FAST_ENOUGH, *tests], cwd=copy, env=environment, check=False
            ).returncode
        )


if __name__ == "__main__":
    main()
