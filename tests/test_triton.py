"""Triton kernels without a GPU: under the interpreter, in a process of its own, and cross-compiled."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tolerances
from tests.random_models import CATEGORICAL, MANY, MIXED, NUMERICAL_12, random_case
from tests.test_importance_impute import run as run_op
from vsae_fast import VSAEImputer, imputation
from vsae_fast.ops.importance_impute import importance_impute
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.parameters import _check_precision
from vsae_fast.tensor_core import pack, tile

ROOT = Path(__file__).parents[1]
MUSHROOM_LIKE = AttributeLayout(("categorical",) * 22, (12,) * 22)
needs_triton = pytest.mark.skipif(sys.platform == "darwin", reason="Triton has no wheels for macOS")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@needs_triton
def test_kernels_match_the_float64_reference_under_the_interpreter():
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/triton_interpreter/importance_impute_cases.py",
    ]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:]


def packed(layout, widths):
    return pack(random_case(layout, 1, 1, data_widths=widths).decoders.to(torch.float32, torch.device("cpu")))


@needs_triton
@pytest.mark.parametrize("capability", [80, 86, 90])
@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.parametrize(
    ("layout", "widths"), [(NUMERICAL_12, (64,)), (MUSHROOM_LIKE, (64,)), (NUMERICAL_12, (128,))],
    ids=["paper", "categorical", "128"],
)  # fmt: skip
def test_machine_code_multiplies_on_tensor_cores_and_does_not_spill(
    layout, widths, precision, capability, tmp_path, request
):
    triton = pytest.importorskip("triton")
    if (capability, precision) == (86, "bfloat16") and layout is NUMERICAL_12:
        request.applymarker(pytest.mark.xfail(reason="the assembler keeps 8 bytes on the stack", strict=True))
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from vsae_fast.kernels.importance_impute import importance_impute as kernel

    model = packed(layout, widths)
    options = tile(model, precision)
    launch = {name: options.pop(name) for name in ("num_warps", "num_stages")}
    constants = {**model.constants, **options}
    names = [parameter.name for parameter in kernel.params]
    kinds = {"per_proposal": "i32", "n_proposals": "i32", "visible_weight": "fp32"}
    integers = ("number_", "level_")
    signature = {
        name: "constexpr" if name in constants
        else kinds.get(name, "*i32" if name.startswith(integers) else "*fp32")
        for name in names
    }  # fmt: skip
    source = ASTSource(kernel, signature, {(names.index(name),): value for name, value in constants.items()})
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=launch)
    assert re.search(r"\bwgmma\.mma_async" if capability == 90 else r"\bmma\.sync", compiled.asm["ptx"])
    assert ("bf16" in compiled.asm["ptx"]) == (precision == "bfloat16")
    (tmp_path / "kernel.cubin").write_bytes(compiled.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    usage = subprocess.run(
        [str(tool), "-res-usage", str(tmp_path / "kernel.cubin")], capture_output=True, text=True, check=True
    ).stdout
    assert re.search(r"STACK:0 .*LOCAL:0", usage), usage


def test_too_many_levels_are_named():
    layout = AttributeLayout(("categorical",) * 3, (5, 5000, 2))
    with pytest.raises(ValueError, match=r"holds 8192 sums of classes, and 3 categories of up to 5000 levels"):
        packed(layout, (16,))


def test_wrong_places_and_names_are_named():
    case = random_case(MIXED, 2, 10)
    with pytest.raises(ValueError, match="backend='triton' of importance_impute takes float32 tensors on a CUDA GPU"):
        run_op(case, torch.float32, "triton")
    with pytest.raises(ValueError, match="unknown precision 'fp8'; use one of 'tf32', 'bfloat16'"):
        run_op(case, torch.float32, "cpu", precision="fp8")
    with pytest.raises(ValueError, match="backend='triton' needs device='cuda', got device='cpu'"):
        VSAEImputer(backend="triton", device="cpu").fit([[1.0, 2.0], [3.0, float("nan")]])


def test_the_estimator_hands_its_precision_on(monkeypatch):
    told = []
    X = np.random.default_rng(0).normal(size=(40, 3))
    X[::3, 1] = np.nan
    imputer = VSAEImputer(epochs=1, n_models=1, n_samples=10, random_state=0).fit(X)
    sample = imputation.importance_impute
    monkeypatch.setattr(
        imputation,
        "importance_impute",
        lambda *a, **options: told.append(options["precision"]) or sample(*a, **options),
    )
    imputer.transform(X)
    monkeypatch.setattr("vsae_fast.parameters._check_precision", lambda precision, backend: None)  # that it has a GPU
    imputer.set_params(precision="bfloat16").transform(X)
    assert set(told[: len(told) // 2]) == {"tf32"}
    assert set(told[len(told) // 2 :]) == {"bfloat16"}
    with pytest.raises(ValueError, match="backend='triton' does not multiply in float32; use another backend"):
        _check_precision("float32", "triton")


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.parametrize("layout", [NUMERICAL_12, CATEGORICAL, MIXED, MANY])
def test_importance_impute_on_the_gpu(layout, precision):
    case = random_case(layout, 200, 1000, context=True)
    truth = run_op(case, torch.float64, "reference")
    (mean, scale, x, mask, noise, decoders), keywords = case.arguments(torch.float32)
    device = torch.device("cuda")
    result = importance_impute(
        *(t.to(device) for t in (mean, scale, x, mask, noise)), decoders.to(torch.float32, device),
        context=keywords["context"].to(device), backend="triton", precision=precision,
    )  # fmt: skip
    relative = (result.imputed.cpu().double() - truth.imputed).norm() / truth.imputed.norm()
    assert relative <= (tolerances.TF32_RELATIVE if precision == "tf32" else tolerances.BFLOAT16_RELATIVE)
