"""What the source and binary distributions hold; the wheel is built from the source distribution."""

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from itertools import chain
from pathlib import Path

import pytest

from tests.early_processes import FOLDER, ROOT

PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
BUILD = [sys.executable, "-m", "build", "--no-isolation", "--outdir", FOLDER, str(ROOT)]
builds = pytest.mark.early(BUILD, {"PATH": PATH})


@pytest.fixture
def distributions(early):
    assert early.returncode == 0, early.output[-6000:]
    (sdist,), (wheel,) = early.folder.glob("*.tar.gz"), early.folder.glob("*.whl")
    return sdist, wheel


def project():
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@builds
def test_sdist_holds_what_a_build_needs(distributions):
    with tarfile.open(distributions[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"setup.py", "CMakeLists.txt", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"}
    sources = (("csrc", {".h", ".cpp", ".cu"}), ("kernels", {".py"}), ("vsae_fast", {".py", ".pyi", ".typed"}))
    for folder, suffixes in sources:
        found = {
            str(p.relative_to(ROOT)) for p in (ROOT / folder).rglob("*") if p.suffix in suffixes or p.name == "py.typed"
        }
        assert found
        needed |= found
    assert needed <= names, needed - names
    assert not [name for name in names if name.endswith((".so", ".pyc")) or "shared/" in name]


@builds
def test_wheel_holds_the_package_and_nothing_else(distributions):
    with zipfile.ZipFile(distributions[1]) as archive:
        names = set(archive.namelist())
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"vsae_fast"}
    expected = {str(p.relative_to(ROOT)) for p in (ROOT / "vsae_fast").rglob("*.py*") if p.suffix in {".py", ".pyi"}}
    expected |= {f"vsae_fast/kernels/{p.name}" for p in (ROOT / "kernels").glob("*.py")} | {"vsae_fast/py.typed"}
    device_code = [p for part in ("core", "cuda") for p in (ROOT / "csrc" / part).iterdir()]
    expected |= {f"vsae_fast/{p.relative_to(ROOT)}" for p in device_code}
    assert expected <= names, expected - names
    assert not [name for name in names if name.startswith(("vsae_fast/csrc/cpu", "vsae_fast/csrc/bindings"))]
    assert len([name for name in names if re.fullmatch(r"vsae_fast/_native\..*\.so", name)]) == 1
    assert any(name.endswith("licenses/LICENSE") for name in names)


@builds
def test_wheel_works_alone(distributions, tmp_path):
    with zipfile.ZipFile(distributions[1]) as archive:
        archive.extractall(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import numpy as np, vsae_fast, vsae_fast._native\n"
        "import vsae_fast.kernels\n"
        "assert vsae_fast.__file__.startswith(sys.argv[1]) and vsae_fast._native.__file__.startswith(sys.argv[1])\n"
        "X = np.array([[1.0, 2.0], [2.0, np.nan], [3.0, 6.0]])\n"
        "assert np.isfinite(vsae_fast.impute(X, epochs=1, random_state=0)).all()\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=120, cwd=tmp_path)


def test_no_torch_at_build_time():
    requires = project()["build-system"]["requires"]
    assert not [r for r in requires if re.match(r"torch|numpy", r)]
    assert {re.match(r"[\w-]+", r)[0] for r in requires} == {"setuptools", "cmake", "ninja", "pybind11"}


def test_the_package_pins_nothing():
    metadata, groups = project()["project"], project()["dependency-groups"]
    everything = [
        *metadata["dependencies"], *chain(*metadata["optional-dependencies"].values()), *chain(*groups.values())
    ]  # fmt: skip
    assert not [requirement for requirement in everything if "==" in requirement or "<" in requirement]


def test_versions_agree():
    import vsae_fast

    assert project()["project"]["version"] == vsae_fast.__version__
    assert f"## {vsae_fast.__version__}" in (ROOT / "CHANGELOG.md").read_text()
