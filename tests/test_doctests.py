import doctest
import pkgutil
from importlib import import_module

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
