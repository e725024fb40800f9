"""Builds the C++ extension with CMake; everything else about the package stands in pyproject.toml."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


class CMakeExtension(Extension):
    """An extension whose sources are listed in CMakeLists.txt."""

    def __init__(self, name: str) -> None:
        super().__init__(name, sources=[])


class CMakeBuild(build_ext):
    """Configures, builds and puts the shared library where setuptools expects it.

    Environment: ``CMAKE_ARGS`` is passed to the configure step; ``CMAKE_BUILD_PARALLEL_LEVEL`` to the build.
    """

    def build_extension(self, ext: Extension) -> None:
        """Build one extension into the place of its import name."""
        if not isinstance(ext, CMakeExtension):
            super().build_extension(ext)
            return
        target_dir = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        build_dir = Path(self.build_temp).resolve() / ext.name
        build_dir.mkdir(parents=True, exist_ok=True)
        target_dir.mkdir(parents=True, exist_ok=True)

        configure = [
            "cmake",
            "-S",
            str(ROOT),
            "-B",
            str(build_dir),
            "-G",
            "Ninja",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={target_dir}",
            f"-DCMAKE_BUILD_TYPE={'Debug' if self.debug else 'Release'}",
            *os.environ.get("CMAKE_ARGS", "").split(),
        ]
        self._run(configure)
        self._run(["cmake", "--build", str(build_dir)])

    @staticmethod
    def _run(command: list[str]) -> None:
        try:
            subprocess.run(command, check=True)
        except FileNotFoundError as error:
            raise SystemExit(f"{command[0]} was not found; install it (pip install cmake ninja)") from error
        except subprocess.CalledProcessError as error:
            raise SystemExit(
                f"building the C++ extension failed ({' '.join(command[:2])} exited {error.returncode}); a C++20 "
                "compiler (GCC 11+ or Clang 14+) is needed"
            ) from error


setup(ext_modules=[CMakeExtension("vsae_fast._native")], cmdclass={"build_ext": CMakeBuild})
