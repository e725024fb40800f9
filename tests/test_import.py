import statistics
import subprocess
import sys
import time

import pytest

import vsae_fast

HEAVY = ["pyarrow", "matplotlib", "polars", "ray", "triton", "pandas", "lightning", "accelerate"]


def run(code):
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120).stdout


def seconds(code):
    begin = time.perf_counter()
    run(code)
    return time.perf_counter() - begin


def test_import_is_quick():
    """Against torch in the same minute, alternating, medians."""
    times = [(seconds("import vsae_fast"), seconds("import torch")) for _ in range(3)]
    ours, torchs = (statistics.median(column) for column in zip(*times, strict=True))
    assert ours < 1.5 * torchs


def test_import_loads_nothing_heavy():
    code = f"import sys, vsae_fast; print([name for name in {HEAVY} if name in sys.modules])"
    assert run(code).strip() == "[]"


def test_the_front_door_loads_no_optional_library():
    """Scikit-learn itself imports pandas, and pandas pyarrow, where they are installed."""
    optional = [name for name in HEAVY if name not in ("pandas", "pyarrow", "triton")]
    code = f"import sys, vsae_fast; vsae_fast.impute; print([name for name in {optional} if name in sys.modules])"
    assert run(code).strip() == "[]"


def test_importing_changes_no_global_state():
    code = (
        "import warnings, logging, random\n"
        "before = (list(warnings.filters), list(logging.getLogger().handlers), random.getstate())\n"
        "import numpy, torch, sklearn.base, tqdm.auto, narwhals.stable.v2, scipy.special\n"
        "before = (list(warnings.filters), list(logging.getLogger().handlers), random.getstate())\n"
        "numbers, tensors = numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()\n"
        "import vsae_fast; vsae_fast.impute; vsae_fast.VSAE\n"
        "assert before == (list(warnings.filters), list(logging.getLogger().handlers), random.getstate())\n"
        "assert numbers == numpy.random.get_state()[1].tolist() and tensors == torch.get_rng_state().tolist()\n"
        "assert not logging.getLogger('vsae_fast').handlers\n"
    )
    assert run(code) == ""


def test_names_are_listed_and_unknown_ones_refused():
    assert set(vsae_fast.__all__) <= set(dir(vsae_fast))
    assert all(hasattr(vsae_fast, name) for name in vsae_fast.__all__)
    with pytest.raises(AttributeError, match="no attribute 'inpute'"):
        _ = vsae_fast.inpute
