import doctest
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest

import vsae_fast

MODULES = [
    info.name
    for info in pkgutil.walk_packages(vsae_fast.__path__, "vsae_fast.")
    if not info.name.startswith(("vsae_fast._native", "vsae_fast.kernels"))
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings(name):
    assert doctest.testmod(import_module(name)).failed == 0


def test_the_front_door_has_examples():
    assert all(">>>" in (thing.__doc__ or "") for thing in (vsae_fast.impute, vsae_fast.VSAEImputer, vsae_fast.VSAE))


def test_code_of_the_readme(monkeypatch, tmp_path):
    text = (Path(__file__).parents[1] / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 2
    monkeypatch.setattr("vsae_fast.presets.EPOCH_RANGE", (1, 2))
    monkeypatch.chdir(tmp_path)
    exec(compile("\n".join(blocks), "README.md", "exec"), {})
    assert (tmp_path / "model.safetensors").is_file()
