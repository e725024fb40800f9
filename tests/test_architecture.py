"""Dependencies point one way, in Python and in C++ alike."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vsae_fast"

# From the ground up. A file may import from its own floor and from below; within the top floor, from its own line and
# from the lines before it.
FLOORS = [
    ["_native", "kernels", "pairing"],
    ["cuda", "ops", "tensor_core"],
    [
        "caller_warning",
        "column_names",
        "datasets",
        "gaussian_mixture",
        "latent_classes",
        "monitor",
        "noise",
        "normal_scores",
        "metrics",
        "missingness",
        "multiple",
        "pooling",
        "table",
        "only_run",
        "source_files",
        "step_graphs",
        "whole_file",
    ],
    ["models"],
    ["closed_form_member"],
    ["class_member", "gaussian_member"],
    ["checkpoints", "hidden_cells", "objective"],
    ["baseline_objectives"],
    ["calibration", "self_masking"],
    ["native_training", "torch_training"],
    ["training"],
    ["presets"],
    ["closed_form_candidates"],
    ["ensemble_validation", "imputation"],
    ["ensemble_imputation", "ensemble_training"],
    ["filling", "kernel_check"],
    ["placement"],
    ["parameters"],
    ["fitted_imputer", "fitting"],
    ["estimator", "files"],
    ["impute_table", "one_call", "parquet_source", "plot", "simple"],
    ["parquet_parts", "parquet_sample", "text_source"],
    ["workers"],
    ["device_parts", "ray", "stream_checks", "stream_log"],
    ["stream"],
    ["cli"],
    ["__main__"],
]
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}
# What a floor may import from outside the standard library.
OUTSIDE = {
    "cuda": {"cuda", "torch"},
    "tensor_core": {"torch"},
    "kernels": {"triton"},
    "ops": {"torch"},
    "table": {"numpy", "narwhals", "torch"},
}
ARROW = PACKAGE / "table" / "arrow_cells.py"  # imported where the caller's own table is Arrow's


def sources():
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def part_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path):
    """Imported module names that run when the module is imported or used, TYPE_CHECKING blocks left out."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            if node.module == "vsae_fast":
                yield from (f"vsae_fast.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_python_imports_only_from_below(path):
    part = part_of(path)
    assert part in LEVEL, f"{path} stands on no floor; add it to FLOORS"
    for name in imports_of(path):
        package, _, rest = name.partition(".")
        if package == "vsae_fast" and rest:
            other = rest.split(".")[0]
            lazily = (part, other) == ("estimator", "files") or (part, other) == ("files", "estimator")
            assert LEVEL[other] <= LEVEL[part] or lazily, f"{part} imports {other}, which stands above it"
        elif part in OUTSIDE and package != "vsae_fast":
            standard = package in __import__("sys").stdlib_module_names
            own = package == "pyarrow" and path == ARROW
            assert standard or own or package in OUTSIDE[part], f"{part} imports {package}"


def test_arrow_is_imported_where_a_table_is_its_own():
    for path in sources():
        first = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)]
        assert all(node.module != "vsae_fast.table.arrow_cells" for node in first), path


def test_kernels_import_triton_only():
    for path in (ROOT / "kernels").rglob("*.py"):
        for name in imports_of(path):
            root = name.split(".")[0]
            assert root in {"triton", "__future__"} or name.startswith("vsae_fast.kernels"), f"{path} imports {name}"


def test_nothing_outside_the_package_is_imported_by_it():
    for path in sources():
        assert not {"tests", "bench", "examples"} & {name.split(".")[0] for name in imports_of(path)}, path


# ---- C++ ------------------------------------------------------------------------------------------------------------

ALLOWED_INCLUDES = {
    "core": {"core"},
    "cpu": {"core", "cpu"},
    "cuda": {"core", "cuda"},
    "bindings": {"core", "cpu", "bindings"},
}


def includes_of(path):
    return re.findall(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', path.read_text(), re.MULTILINE)


def cpp_sources():
    return sorted(path for path in (ROOT / "csrc").rglob("*") if path.suffix in {".h", ".cpp", ".cu"})


@pytest.mark.parametrize("path", cpp_sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_cpp_includes_only_from_below(path):
    folder = path.relative_to(ROOT / "csrc").parts[0]
    for bracket, name in includes_of(path):
        if bracket == '"':
            assert name.split("/")[0] in ALLOWED_INCLUDES[folder], f"{path} includes {name}"
        else:
            assert not name.startswith(("torch/", "ATen/", "c10/")), f"{path} includes torch"
            assert not name.startswith("pybind11/") or folder == "bindings", f"{path} includes pybind11"
            assert name != "Python.h"


@pytest.mark.parametrize("folder", ["core", "cuda"])
def test_nothing_is_included_that_nvrtc_lacks(folder):
    for path in (ROOT / "csrc" / folder).iterdir():
        assert all(bracket == '"' for bracket, _ in includes_of(path)), f"{path} includes a system header"


# ---- one op, one name -----------------------------------------------------------------------------------------------

OPS = ["grouped_mlp", "fill_unobserved", "propose", "elbo", "sample_moments", "importance_impute"]


@pytest.mark.parametrize("op", OPS)
def test_every_op_has_its_reference_and_its_test(op):
    assert (PACKAGE / "ops" / f"{op}.py").is_file()
    assert (ROOT / "tests" / f"test_{op}.py").is_file()


@pytest.mark.parametrize("folder", ["csrc/cpu", "kernels"])
def test_kernels_carry_the_name_of_their_op(folder):
    for path in (ROOT / folder).glob("*_kernel.*"):
        op = path.stem.removesuffix("_kernel")
        assert op in [*OPS, "training_step", "level_probabilities", "fma_peak", "elementary"], path
