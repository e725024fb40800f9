"""Run the kernel tests against a special build of the extension, in a copy of the package.

python -m tests.special_builds lanes16    AVX-512 kernels built from AVX2 instructions: 16 lanes on any x86-64 machine
python -m tests.special_builds sanitize   AddressSanitizer and UndefinedBehaviorSanitizer, every instruction set
python -m tests.special_builds races      ThreadSanitizer, every instruction set
python -m tests.special_builds threads    a program of its own under ThreadSanitizer (tests/threads)
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pybind11

ROOT = Path(__file__).parents[1]
KERNEL_TESTS = [
    "test_elbo.py", "test_elementary.py", "test_fill_unobserved.py", "test_grouped_mlp.py", "test_importance_impute.py",
    "test_gaussian_mixture.py", "test_latent_classes.py", "test_linear_gaussian.py", "test_native_training.py",
    "test_noise.py", "test_normal_scores.py", "test_propose.py", "test_sample_moments.py", "test_samples.py",
]  # fmt: skip
# Sweeps and statistics find no wrong access; a child process or an interrupt confuses the sanitizers.
SANITIZABLE = (
    "not (first_losses or batch_sizes or two_rows or largest_error or fork or interrupt or torch_checks or "
    "257-1000 or softplus or standard_normal)"
)
BUILDS = {
    # Emulated instructions are ten times slower: other tests of the trainer cover its kernels, and how soon an
    # interrupt is heeded says nothing there.
    "lanes16": ("VSAE_EMULATE_AVX512", "not (first_losses or interrupt)"),
    "sanitize": ("VSAE_SANITIZE", SANITIZABLE),
    # Training steps beside torch's autograd take minutes each there; `threads` has the trainer.
    "races": (
        "VSAE_SANITIZE_THREADS",
        SANITIZABLE.replace("not (", "not (native_training or gradcheck or gradients_of or "),
    ),
}


def sanitizer_variables(*names: str) -> dict[str, str]:
    """The sanitizers' run-time libraries must be loaded before the interpreter's own."""
    compiler = os.environ.get("CXX", "g++")
    libraries = [
        subprocess.run(
            [compiler, f"-print-file-name={name}"], check=True, capture_output=True, text=True
        ).stdout.strip()
        for name in names
    ]
    return {
        "LD_PRELOAD": " ".join(libraries),
        # The interpreter and torch keep memory on purpose; only wrong accesses count.
        "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:abort_on_error=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        # The interpreter and torch synchronise by means that ThreadSanitizer does not see; our kernels are what counts.
        "TSAN_OPTIONS": "halt_on_error=1:ignore_noninstrumented_modules=1",
    }


def compile_with(folder: Path, *options: str, target: str = "all") -> dict[str, str]:
    """Configure and build into a folder; return the environment that has the build's tools."""
    configure = [
        "cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", *options,
        f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        *os.environ.get("CMAKE_ARGS", "").split(),
    ]  # fmt: skip
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("MAKEFLAGS", None)  # the jobserver of a make above: its pipe does not reach Python's children
    subprocess.run(configure, check=True, env=environment, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", str(folder), "--target", target], check=True, env=environment)
    return environment


def run_threads() -> None:
    """Python's own threads and allocators would hide a race, or look like one: the program has none of them."""
    with tempfile.TemporaryDirectory() as folder:
        environment = compile_with(Path(folder), "-DVSAE_TEST_THREADS=ON", target="threads")
        environment["TSAN_OPTIONS"] = "halt_on_error=1"
        raise SystemExit(subprocess.run([str(Path(folder) / "threads")], env=environment, check=False).returncode)


def main() -> None:
    """Build into a copy of the package, so that the installed extension stays as it is, and test that copy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", choices=(*BUILDS, "threads"))
    build = parser.parse_args().build
    if build == "threads":
        return run_threads()
    option, selection = BUILDS[build]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        ignore = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(ROOT / "vsae_fast", copy / "vsae_fast", ignore=ignore)
        shutil.copytree(ROOT / "kernels", copy / "vsae_fast" / "kernels", ignore=ignore)
        shutil.copytree(ROOT / "tests", copy / "tests", ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", copy)
        environment = compile_with(
            copy / "build", f"-D{option}=ON", f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={copy / 'vsae_fast'}"
        )
        if build == "lanes16":
            environment["VSAE_FAST_CPU"] = "avx512"
        else:
            libraries = ("libtsan.so",) if build == "races" else ("libasan.so", "libubsan.so")
            environment.update(sanitizer_variables(*libraries))
        loaded = subprocess.run(
            [sys.executable, "-c", "from vsae_fast import _native; print(_native.__file__)"],
            cwd=copy, env=environment, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        if not loaded.startswith(str(copy)):
            raise SystemExit(f"the special build was not loaded: {loaded}")
        tests = [str(copy / "tests" / name) for name in KERNEL_TESTS]
        command = [sys.executable, "-m", "pytest", "-x", "-k", selection, *tests]
        raise SystemExit(subprocess.run(command, cwd=copy, env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
