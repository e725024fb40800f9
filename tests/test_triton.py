"""Triton kernels without a GPU: under the interpreter, in a process of its own, and cross-compiled."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tolerances
from tests.random_models import CATEGORICAL, MANY, MIXED, NUMERICAL_12, random_case, random_rows
from tests.test_elbo import arguments, bound_and_gradients
from tests.test_grouped_mlp import run as run_grouped_mlp
from tests.test_importance_impute import run as run_op
from tests.test_propose import AUTO, trained_like
from tests.training_ops import networks_of
from vsae_fast import VSAEImputer, imputation
from vsae_fast.models.config import NetworkConfig
from vsae_fast.ops.grouped_mlp import BatchNormState
from vsae_fast.ops.importance_impute import importance_impute
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.ops.propose import propose
from vsae_fast.ops.stopping import SEGMENT
from vsae_fast.placement import check_place
from vsae_fast.tensor_core.elbo import blocks as at_once
from vsae_fast.tensor_core.grouped_mlp import constants as grouped_constants
from vsae_fast.tensor_core.grouped_mlp import layers_of
from vsae_fast.tensor_core.importance_impute import pack, pack_to_score, tile
from vsae_fast.tensor_core.propose import blocks
from vsae_fast.tensor_core.sample_moments import constants as sampling_constants

ROOT = Path(__file__).parents[1]
MUSHROOM_LIKE = AttributeLayout(("categorical",) * 22, (12,) * 22)
needs_triton = pytest.mark.skipif(sys.platform == "darwin", reason="Triton has no wheels for macOS")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


CASES = sorted(path.name for path in (ROOT / "tests" / "triton_interpreter").glob("*_cases.py"))


def interpreted(cases):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/triton_interpreter/{cases}"]
    return pytest.param(cases, marks=pytest.mark.early(command, {"TRITON_INTERPRET": "1"}))


@needs_triton
@pytest.mark.parametrize("cases", [interpreted(cases) for cases in CASES])
def test_kernels_match_the_float64_reference_under_the_interpreter(cases, early):
    assert early.returncode == 0, f"{cases}: {early.output[-3000:]}"


LAUNCH = ("num_warps", "num_stages")
INTEGERS = ("per_proposal", "proposal", "noise_step", "first_sample", "segment")  # and what begins with n_
TABLES = ("number_", "level_", "scored_", "attribute", "start", "kind", "member")


def machine_code(kernel, constants, capability, tmp_path, **options):
    """PTX and use of resources of a kernel; raises where it spills. Arguments that are None stand among constants."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    def kind(name):
        if name in constants:
            return "constexpr"
        if name in INTEGERS or name == "n" or name.startswith("n_"):
            return "i32"
        if name in ("slope", "visible_weight"):
            return "fp32"
        return "*i32" if name.startswith(TABLES) else "*fp32"

    names = [parameter.name for parameter in kernel.params]
    values = {(names.index(name),): value for name, value in constants.items() if name in names}
    source = ASTSource(kernel, {name: kind(name) for name in names}, values)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    (tmp_path / "kernel.cubin").write_bytes(compiled.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    command = [str(tool), "-res-usage", str(tmp_path / "kernel.cubin")]
    usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.search(r"STACK:0 .*LOCAL:0", usage), usage
    return compiled.asm["ptx"]


def multiplies_on_tensor_cores(ptx, capability):
    # Tiles of fewer than 64 rows take the older instruction on Hopper too.
    return re.search(r"\b(wgmma\.mma_async|mma\.sync)" if capability == 90 else r"\bmma\.sync", ptx)


def packed(layout, widths):
    return pack_to_score(random_case(layout, 1, 1, data_widths=widths).decoders.to(torch.float32, torch.device("cpu")))


NOT_GIVEN = {
    "results": ("log_weights", "partial"),
    "results and log-weights": ("partial",),
    "segments": ("imputed", "log_evidence", "effective_size", "log_weights"),
}


@needs_triton
@pytest.mark.parametrize("capability", [80, 86, 90])
@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.parametrize("what", ["results", "results and log-weights", "segments"])
@pytest.mark.parametrize(
    ("layout", "widths"), [(NUMERICAL_12, (64,)), (MUSHROOM_LIKE, (64,)), (NUMERICAL_12, (128,))],
    ids=["paper", "categorical", "128"],
)  # fmt: skip
def test_machine_code_multiplies_on_tensor_cores_and_does_not_spill(
    layout, widths, what, precision, capability, tmp_path
):
    pytest.importorskip("triton")
    from vsae_fast.kernels.importance_impute import importance_impute as kernel

    model = packed(layout, widths)
    length = SEGMENT if what == "segments" else 1000
    options = compiled_for(
        model.constants | tile(model, precision, divmod(capability, 10), length) | dict.fromkeys(NOT_GIVEN[what])
    )
    ptx = machine_code(kernel, capability=capability, tmp_path=tmp_path, **options)
    assert re.search(r"\bwgmma\.mma_async" if capability == 90 else r"\bmma\.sync", ptx)
    assert ("bf16" in ptx) == (precision == "bfloat16")


def compiled_for(constants):
    launch = {name: constants.pop(name) for name in LAUNCH}
    return {"constants": constants, **launch}


@needs_triton
@pytest.mark.parametrize("capability", [80, 86, 90])
@pytest.mark.parametrize(
    ("layout", "widths"), [(NUMERICAL_12, (64,)), (MUSHROOM_LIKE, (64,)), (NUMERICAL_12, (128, 128))],
    ids=["paper", "categorical", "128-128"],
)  # fmt: skip
def test_machine_code_of_sample_moments(layout, widths, capability, tmp_path):
    pytest.importorskip("triton")
    from vsae_fast.kernels.sample_moments import sample_moments as kernel

    model = pack(packed(layout, widths).decoders)
    ptx = machine_code(kernel, capability=capability, tmp_path=tmp_path, **compiled_for(sampling_constants(model)))
    assert multiplies_on_tensor_cores(ptx, capability)


@needs_triton
@pytest.mark.parametrize("capability", [80, 86, 90])
@pytest.mark.parametrize("sizes", [(1, 16, 16, 4), (5, 64, 64, 8), (784, 128, 128, 512)], ids=str)
def test_machine_code_of_grouped_mlp(sizes, capability, tmp_path):
    pytest.importorskip("triton")
    from vsae_fast.kernels import grouped_mlp as kernels

    for n_rows in (64, 4096):
        for layer in layers_of(list(sizes), n_rows, 12):
            constants = grouped_constants(layer)
            launch = {name: constants.pop(name) for name in LAUNCH}
            first = {} if layer.normalised else dict.fromkeys(BELOW)
            head = dict.fromkeys(("partial",)) if layer.head else {}
            forward = machine_code(kernels.grouped_layer, constants | first | head, capability, tmp_path, **launch)
            first |= {} if layer.normalised else {"partial_sums": None}
            head = dict.fromkeys(("sums", "linear", "statistics", "gamma")) if layer.head else {}
            backward = machine_code(
                kernels.grouped_layer_backward, constants | first | head, capability, tmp_path, **launch
            )
            assert multiplies_on_tensor_cores(forward, capability)
            assert multiplies_on_tensor_cores(backward, capability)
            if not layer.head:
                machine_code(kernels.grouped_statistics, constants, capability, tmp_path, **launch)


BELOW = ("below", "below_statistics", "below_gamma", "below_beta")


@needs_triton
@pytest.mark.parametrize("capability", [80, 86, 90])
def test_machine_code_of_propose(capability, tmp_path):
    pytest.importorskip("triton")
    from vsae_fast.kernels import propose as kernels

    shared = {"LATENT": 4, "SLOPE": 0.01}
    for n_in, n_out, first, last in ((1, 16, True, False), (16, 8, False, True), (784, 128, True, False)):
        constants = blocks(n_in, n_out) | shared | {"FIRST": first, "LAST": last}
        assert multiplies_on_tensor_cores(machine_code(kernels.own_layer, constants, capability, tmp_path), capability)
    for n_in, n_out, first, role in ((24, 128, True, "body"), (256, 256, False, "body"), (128, 96, False, "head"),
                                     (128, 128, False, "context")):  # fmt: skip
        constants = blocks(n_in, n_out) | shared | {"FIRST": first, "ROLE": role}
        without = {"bias": None} if role == "context" else {}
        ptx = machine_code(kernels.collective_layer, constants | without, capability, tmp_path)
        assert multiplies_on_tensor_cores(ptx, capability)


@needs_triton
@pytest.mark.parametrize("capability", [80, 86, 90])
def test_machine_code_of_what_does_not_multiply(capability, tmp_path):
    pytest.importorskip("triton")
    from vsae_fast.kernels import add_up, elbo, fill_unobserved

    for kernel in (add_up.add_up, fill_unobserved.fill_unobserved, fill_unobserved.fill_unobserved_backward):
        machine_code(kernel, {"BLOCK": 128}, capability, tmp_path)
    for layout in (NUMERICAL_12, MUSHROOM_LIKE, AttributeLayout(("numerical",) * 2, (784, 784))):
        constants = at_once(layout.n_columns, 2 * layout.n_attributes, list(layout.starts), list(layout.kind_codes))
        for without in ((), ("noise", "variance")):
            for kernel in (elbo.elbo, elbo.elbo_backward):
                machine_code(kernel, constants | dict.fromkeys(without), capability, tmp_path)


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
    monkeypatch.setattr("vsae_fast.parameters.check_place", lambda *names: torch.device("cpu"))  # that it has a GPU
    imputer.set_params(precision="bfloat16").transform(X)
    assert set(told[: len(told) // 2]) == {"tf32"}
    assert set(told[len(told) // 2 :]) == {"bfloat16"}
    monkeypatch.setattr("vsae_fast.placement.resolve_device", torch.device)
    monkeypatch.setattr("vsae_fast.tensor_core.device.check_device", lambda device: None)
    with pytest.raises(ValueError, match="backend='triton' does not multiply in float32; use another backend"):
        check_place("cuda", "triton", "float32")


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


def relative_errors(ours, truth):
    return [((a.cpu().double() - b).norm() / b.norm().clamp(min=1)).item() for a, b in zip(ours, truth, strict=True)]


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("n_samples", [0, 10])
def test_elbo_on_the_gpu(n_samples, generator):
    case = arguments(MIXED, 200, n_samples, generator)
    truth = bound_and_gradients(case, MIXED, "reference", torch.float64)
    on_gpu = {name: None if t is None else t.cuda() for name, t in case.items()}
    ours = bound_and_gradients(on_gpu, MIXED, "triton", torch.float32)
    assert max(relative_errors(ours, truth)) <= tolerances.GPU_FLOAT32_RELATIVE  # it multiplies no matrices


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("sizes", [(1, 16, 16, 4), (90, 70, 130, 3)])
def test_grouped_mlp_on_the_gpu(sizes, generator):
    case = networks_of(sizes, 500, generator)
    truth = run_grouped_mlp(case, "reference", torch.float64, True, 500)
    weights, biases, norms, x, mask = case
    states = [BatchNormState(*(t.cuda() for t in vars(norm).values())) for norm in norms]
    on_gpu = ([t.cuda() for t in weights], [t.cuda() for t in biases], states, x.cuda(), mask.cuda())
    ours = run_grouped_mlp(on_gpu, "triton", torch.float32, True, 500)
    assert max(relative_errors(ours, truth)) <= tolerances.TF32_RELATIVE * len(weights)


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize(("config", "n_fills"), [(NetworkConfig(), 3), (AUTO, 0)])
def test_propose_on_the_gpu(config, n_fills, generator):
    encoders = trained_like(MIXED, config, generator).folded_encoders(torch.float32)
    x, mask = (t.float() for t in random_rows(MIXED, 300, generator))
    fill = torch.randn(n_fills, MIXED.n_columns, generator=generator) if n_fills else None
    double, gpu = torch.device("cpu"), torch.device("cuda")
    truth = propose(
        x.double(), mask.double(), encoders.to(torch.float64, double), fill=None if fill is None else fill.double()
    )
    ours = propose(
        x.cuda(), mask.cuda(), encoders.to(torch.float32, gpu), fill=None if fill is None else fill.cuda(),
        backend="triton",
    )  # fmt: skip
    assert max(relative_errors(ours[:2], truth[:2])) <= tolerances.TF32_RELATIVE
