"""CUDA kernels without a GPU: their arithmetic on the host, their machine code for every architecture, their cache."""

import io
import json
import multiprocessing
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests import tolerances
from tests.cuda_emulation import compile_kernels
from tests.random_models import (
    CATEGORICAL,
    MANY,
    MIXED,
    NUMERICAL_12,
    ONE_CATEGORY,
    ONE_NUMBER,
    random_case,
    random_rows,
)  # fmt: skip
from tests.test_importance_impute import assert_as_good_as_eager as compare_with_float64
from tests.test_importance_impute import errors
from tests.test_importance_impute import run as run_op
from tests.test_propose import AUTO, LAYOUTS, trained_like
from tests.test_propose import both as both_proposals
from tests.test_samples import (
    assert_a_large_effective_size_is_enough,
    assert_draws_of_the_reference,
    assert_stops_like_the_reference,
    several_proposals,
)
from vsae_fast import VSAEImputer
from vsae_fast.cuda import compiler
from vsae_fast.cuda.dense import TILES
from vsae_fast.cuda.importance_impute import CudaModel, run
from vsae_fast.cuda.propose import CudaEncoders
from vsae_fast.cuda.propose import run as run_propose
from vsae_fast.cuda.stopping import rounds
from vsae_fast.models.config import NetworkConfig
from vsae_fast.ops.fill_unobserved import fill_unobserved
from vsae_fast.ops.importance_impute import OP, Imputation, importance_impute
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.ops.propose import OP as PROPOSE
from vsae_fast.ops.propose import Proposals, propose
from vsae_fast.ops.stopping import SEGMENT

ARCHITECTURES = ("sm_60", "sm_61", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")
BUDGET = json.loads((Path(__file__).parent / "cuda_budget.json").read_text())
WIDE = AttributeLayout(("numerical", "categorical"), (150, 5))  # more columns than a tile has outputs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("emulation")


def emulate(case, folder, *, n_splits=1, visible_weight=1.0, tile=None):
    """The kernel on the host; unobserved cells hold NaN, which would show if they were read."""
    (mean, scale, x, mask, noise, decoders), keywords = case.arguments(torch.float32)
    context = keywords["context"]
    if mean.dim() == 2:
        mean, scale = mean.unsqueeze(1), scale.unsqueeze(1)
        context = None if context is None else context.unsqueeze(1)
    model = CudaModel(decoders)
    if tile is not None:
        model.__dict__["tile"] = tile  # in the place of the cached property
    launch = compile_kernels(model.prelude(), "importance_impute.cu", folder)
    x = torch.where(decoders.layout.expand(mask) > 0, x, torch.nan)
    results = run(launch, model, n_splits, mean, scale, x, mask, noise, context=context, visible_weight=visible_weight)
    return Imputation(*results, n_spent=None, draws=None)


def assert_as_good_as_eager(case, folder, *, visible_weight=1.0, **options):
    def kernel(case, *, visible_weight):
        return emulate(case, folder, visible_weight=visible_weight, **options)

    return compare_with_float64(case, kernel, visible_weight=visible_weight)


@pytest.mark.parametrize("n_samples", [1, 31, 200])
@pytest.mark.parametrize(
    "layout", [NUMERICAL_12, CATEGORICAL, MIXED, ONE_NUMBER, ONE_CATEGORY], ids=["12", "5c", "mixed", "1", "1c"]
)
def test_importance_impute_matches_float64_reference(layout, n_samples, folder):
    assert_as_good_as_eager(random_case(layout, 3, n_samples, seed=n_samples), folder)


@pytest.mark.parametrize("tile", TILES)
def test_importance_impute_with_every_tile(tile, folder):
    case = random_case(MIXED, 2, 150, context=True, data_widths=(40, 24), mask_widths=(9,))
    assert_as_good_as_eager(case, folder, tile=tile, visible_weight=0.2)


@pytest.mark.parametrize(
    ("layout", "widths"), [(WIDE, (64,)), (MANY, (128, 128)), (NUMERICAL_12, (256, 256))], ids=["wide", "many", "256"]
)
def test_importance_impute_of_wide_models(layout, widths, folder):
    # Of two rows eager PyTorch's worst error may happen to be small, of twelve it does not.
    assert_as_good_as_eager(random_case(layout, 12, 70, data_widths=widths, context=True), folder)


@pytest.mark.parametrize("n_splits", [1, 2, 3, 50])
def test_importance_impute_with_several_proposals_and_blocks_a_row(n_splits, folder):
    assert_as_good_as_eager(several_proposals(MIXED, 3, 300), folder, n_splits=n_splits)


@pytest.mark.parametrize("observed", [0.0, 1.0])
def test_importance_impute_of_rows_all_observed_or_all_missing(observed, folder):
    assert_as_good_as_eager(random_case(MIXED, 3, 100, observed=observed), folder)


def test_importance_impute_of_log_weights_of_ten_thousand(folder):
    case = random_case(MIXED, 5, 100, observed=0.8)
    case.x[:, 3] += 140 * case.decoders.log_scale[3].exp()
    case.mask[:, 1] = 1
    assert assert_as_good_as_eager(case, folder).log_evidence.min() < -8e3


def test_importance_impute_of_no_rows(folder):
    case = random_case(MIXED, 1, 10)
    for name in ("mean", "scale", "x", "mask"):
        setattr(case, name, getattr(case, name)[:0])
    assert emulate(case, folder).imputed.shape == (0, MIXED.n_columns)


@pytest.fixture
def kernel(folder, monkeypatch):
    """The op with backend="cuda" for tensors on the CPU."""

    def load(kernel, prelude, device, threads):
        assert threads == 128
        return SimpleNamespace(launch=compile_kernels(prelude, f"{kernel}.cu", folder))

    monkeypatch.setattr("vsae_fast.cuda.importance_impute.load", load)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(multi_processor_count=2))
    chosen = OP.select
    monkeypatch.setattr(OP, "select", lambda backend, tensor: OP.on_gpu.get(backend) or chosen(backend, tensor))
    return lambda case, **options: run_op(case, torch.float32, "cuda", **options)


def test_the_op_hands_everything_to_the_kernel(kernel):
    result = compare_with_float64(several_proposals(MIXED, 2, 200), kernel, visible_weight=0.3)
    assert (result.n_spent == 200).all()
    assert result.draws.shape == (9, 0, MIXED.n_columns)


@pytest.mark.parametrize("n_proposals", [1, 2])
def test_sampling_stops_at_the_requested_precision(n_proposals, kernel):
    assert_stops_like_the_reference(kernel, n_proposals)


def test_a_large_effective_size_is_enough(kernel):
    assert_a_large_effective_size_is_enough(kernel)


@pytest.mark.parametrize("tolerance", [1e-9, 0.3, 100.0])
@pytest.mark.parametrize(
    "case", [several_proposals(MIXED, 5, 300), several_proposals(CATEGORICAL, 2, 400), random_case(WIDE, 3, 500)],
    ids=["mixed", "levels", "wide"],
)  # fmt: skip
def test_what_stops_is_the_reference(case, tolerance, kernel):
    truth = run_op(case, torch.float64, "reference", tolerance=tolerance, visible_weight=0.3)
    result = kernel(case, tolerance=tolerance, visible_weight=0.3)
    assert torch.equal(result.n_spent, truth.n_spent)
    found = errors(result, truth)
    assert found["imputed"] <= 1e-4
    assert found["effective_size"] <= 1e-4
    assert found["log_evidence"] <= tolerances.LOG_EVIDENCE_RELATIVE


def test_draws_are_those_of_the_reference(kernel):
    for case in (several_proposals(MIXED, 5, 300), random_case(WIDE, 1, 50, context=True)):
        assert_draws_of_the_reference(case, kernel)
    assert_draws_of_the_reference(several_proposals(MIXED, 2, 400), kernel, tolerance=0.3)


def test_no_rows_do_not_stop_anything(kernel):
    case = random_case(MIXED, 1, 100)
    for name in ("mean", "scale", "x", "mask"):
        setattr(case, name, getattr(case, name)[:0])
    result = kernel(case, tolerance=0.1, n_draws=2)
    assert result.imputed.shape == (0, MIXED.n_columns)
    assert result.draws.shape == (0, 2, MIXED.n_columns)


@pytest.mark.parametrize(
    ("n_segments", "expected"),
    [(0, []), (1, [(0, 1)]), (2, [(0, 2)]), (20, [(0, 2), (2, 4), (4, 8), (8, 16), (16, 20)])],
)  # fmt: skip
def test_rounds_double(n_segments, expected):
    assert rounds(n_segments) == expected


def test_a_model_too_wide_for_shared_memory_is_named():
    case = random_case(MIXED, 1, 1, data_widths=(4096,))
    with pytest.raises(ValueError, match=r"backend='cuda' keeps 8 samples .*4096.*use backend='reference'"):
        CudaModel(case.decoders).prelude()


def report(kernel, prelude, architecture):
    """What the assembler says of each kernel of a file."""
    log = io.StringIO()
    compiler.compile_source(kernel, prelude, architecture, log)
    found = re.findall(
        r"entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
        r".*?Used (\d+) registers(.*?)\n",
        log.getvalue(),
        re.DOTALL,
    )
    result = {}
    for name, stack, stores, loads, registers, rest in found:
        shared = re.search(r"(\d+) bytes smem", rest)
        result[name] = {
            "registers": int(registers), "stack": int(stack), "spill": int(stores) + int(loads),
            "shared_bytes": int(shared[1]) if shared else 0,
        }  # fmt: skip
    return result


def within_budget(kernel, prelude, architecture):
    """Hold every kernel of a file to its budget; what the assembler says of them."""
    found = report(kernel, prelude, architecture)
    assert found.keys() == BUDGET[kernel].keys()
    for name, budget in BUDGET[kernel].items():
        for what, limit in budget.items():
            assert found[name][what] <= limit, (name, what, found[name])
    return found


# ---- propose --------------------------------------------------------------------------------------------------------


def propose_on_the_host(model, x, mask, folder, fill=None):
    encoders = CudaEncoders(model.folded_encoders(torch.float32))
    launch = compile_kernels(encoders.prelude(), "propose.cu", folder)
    mean, scale, context = run_propose(launch, encoders, x, mask, fill)
    return Proposals(mean, scale, context if model.config.skip else None)


@pytest.mark.parametrize("n_rows", [1, 3, 70])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("config", "n_fills"), [(NetworkConfig(), 0), (NetworkConfig(), 3), (AUTO, 0)])
def test_propose_matches_float64_reference(layout, config, n_fills, n_rows, folder, generator):
    layout = LAYOUTS[layout]
    model = trained_like(layout, config, generator)
    x, mask = (t.float() for t in random_rows(layout, n_rows, generator))
    fill = torch.randn(n_fills, layout.n_columns, generator=generator) if n_fills else None
    x = torch.where(layout.expand(mask) > 0, x, torch.nan)
    _, eager, truth = both_proposals(model, x, mask, fill)
    ours = propose_on_the_host(model, x, mask, folder, fill)
    for name in ("mean", "scale", "context"):
        if getattr(truth, name) is None:
            assert getattr(ours, name) is None
            continue
        exact = getattr(truth, name)
        error, allowed = ((getattr(r, name) - exact).norm() / exact.norm() for r in (ours, eager))
        assert error <= tolerances.TIMES_EAGER * max(allowed, tolerances.EAGER_FLOOR), name


def test_propose_of_a_row_does_not_depend_on_the_others(folder, generator):
    model = trained_like(MIXED, AUTO, generator)
    x, mask = (t.float() for t in random_rows(MIXED, 50, generator))
    whole = propose_on_the_host(model, x, mask, folder)
    for rows in (slice(0, 1), slice(7, 50), torch.randperm(50, generator=generator)):
        part = propose_on_the_host(model, x[rows], mask[rows], folder)
        for ours, theirs in zip(part, whole, strict=True):
            assert torch.equal(ours, theirs[rows])


def test_propose_of_many_attributes_and_no_rows(folder, generator):
    model = trained_like(MANY, AUTO, generator)
    x, mask = (t.float() for t in random_rows(MANY, 5, generator))
    _, _, truth = both_proposals(model, x, mask)
    torch.testing.assert_close(
        propose_on_the_host(model, x, mask, folder).mean.double(), truth.mean, rtol=1e-4, atol=1e-4
    )
    assert propose_on_the_host(model, x[:0], mask[:0], folder).context.shape == (0, 1, 128)


def test_the_public_op_hands_everything_to_propose(folder, generator, monkeypatch):
    def load(kernel, prelude, device, threads):
        return SimpleNamespace(launch=compile_kernels(prelude, f"{kernel}.cu", folder))

    monkeypatch.setattr("vsae_fast.cuda.propose.load", load)
    monkeypatch.setattr(PROPOSE, "select", lambda backend, tensor: PROPOSE.on_gpu["cuda"])
    for config in (NetworkConfig(), AUTO):
        model = trained_like(MIXED, config, generator)
        x, mask = (t.float() for t in random_rows(MIXED, 4, generator))
        ours = propose(x, mask, model.folded_encoders(torch.float32), backend="cuda")
        expected = propose_on_the_host(model, x, mask, folder)
        assert all(a is b or torch.equal(a, b) for a, b in zip(ours, expected, strict=True))


def test_encoders_too_wide_for_shared_memory_are_named(generator):
    layout = AttributeLayout(("numerical",), (4000,))
    encoders = trained_like(layout, AUTO, generator).folded_encoders(torch.float32)
    with pytest.raises(ValueError, match=r"keeps 8 rows .*\(4000 columns\).*use backend='reference'"):
        CudaEncoders(encoders).prelude()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("config", [NetworkConfig(), AUTO], ids=["paper", "auto"])
def test_machine_code_of_propose_keeps_to_the_budget(config, architecture, generator):
    pytest.importorskip("cuda.core")
    for layout in (NUMERICAL_12, AttributeLayout(("categorical",) * 22, (5,) * 22)):
        encoders = CudaEncoders(trained_like(layout, config, generator).folded_encoders(torch.float32))
        found = within_budget("propose", encoders.prelude(), architecture)
        assert found["propose"]["shared_bytes"] == encoders.shared_bytes(encoders.tile)


# ---- machine code ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    ("layout", "widths"),
    [(NUMERICAL_12, (64,)), (AttributeLayout(("categorical",) * 22, (5,) * 22), (64,)), (NUMERICAL_12, (256, 256))],
    ids=["paper", "categorical", "256"],
)
def test_machine_code_keeps_to_the_budget(layout, widths, architecture):
    pytest.importorskip("cuda.core")
    decoders = random_case(layout, 1, 1, data_widths=widths).decoders
    for model in (CudaModel(decoders), CudaModel(decoders, SEGMENT)):
        found = within_budget("importance_impute", model.prelude(), architecture)
        # The plan and the kernel lay out shared memory alike.
        assert found["importance_impute"]["shared_bytes"] == model.shared_bytes(model.tile)
    assert model.tile <= SEGMENT


# ---- projection -----------------------------------------------------------------------------------------------------


def test_projection_reads_the_product_loops_of_pascal():
    pytest.importorskip("cuda.core")
    from bench.projection import product_loops, rows_per_thread, text_section

    model = CudaModel(random_case(NUMERICAL_12, 1, 1, mask_widths=(16,), data_widths=(64,)).decoders)
    code = compiler.compile_source("importance_impute", model.prelude(), "sm_61")
    shares = product_loops(text_section(code, "importance_impute"))
    assert set(shares) == {rows_per_thread(model.tile, n_out) for n_out in (16, 64, 12)}
    # A thread that holds one output loads twice for four multiply-adds, one that holds four twice for sixteen.
    assert 0.4 < shares[1] < 4 / 6
    assert shares[1] < shares[4] < 16 / 18
    with pytest.raises(ValueError, match="no kernel other"):
        text_section(code, "other")


# ---- the cache ------------------------------------------------------------------------------------------------------


def prelude():
    return CudaModel(random_case(ONE_NUMBER, 1, 1, mask_widths=(4,), data_widths=(4,)).decoders).prelude()


def compile_into(folder, results):
    import os

    os.environ["VSAE_FAST_CACHE"] = str(folder)
    results.put(compiler.machine_code("importance_impute", prelude(), "sm_61"))


def test_cache_keeps_rebuilds_and_tells_models_apart(tmp_path, monkeypatch):
    pytest.importorskip("cuda.core")
    monkeypatch.setenv("VSAE_FAST_CACHE", str(tmp_path))
    compiled = []
    original = compiler.compile_source
    monkeypatch.setattr(compiler, "compile_source", lambda *a: compiled.append(a) or original(*a))
    code = compiler.machine_code("importance_impute", prelude(), "sm_61")
    assert code.startswith(b"\x7fELF")
    (file,) = (tmp_path / "cuda").iterdir()
    assert compiler.machine_code("importance_impute", prelude(), "sm_61") == code
    assert len(compiled) == 1
    kept = file.read_bytes()
    for damaged in (b"", kept[:-1], kept[:40] + b"x" + kept[41:]):
        file.write_bytes(damaged)
        assert compiler.machine_code("importance_impute", prelude(), "sm_61") == code
    assert len(compiled) == 4
    compiler.machine_code("importance_impute", prelude() + "// another\n", "sm_61")
    compiler.machine_code("importance_impute", prelude(), "sm_60")
    assert len(compiled) == 6
    assert len(list((tmp_path / "cuda").iterdir())) == 3


def test_another_users_machine_code_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("VSAE_FAST_CACHE", str(tmp_path))
    monkeypatch.setattr(compiler, "compile_source", lambda *a: b"ours")
    compiler.machine_code("importance_impute", "", "sm_61")
    monkeypatch.setattr(compiler, "compile_source", lambda *a: b"again")
    assert compiler.machine_code("importance_impute", "", "sm_61") == b"ours"
    monkeypatch.setattr(compiler.os, "getuid", lambda: -1)
    assert compiler.machine_code("importance_impute", "", "sm_61") == b"again"


def test_without_a_place_for_the_cache_kernels_are_compiled_all_the_same(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("VSAE_FAST_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(compiler, "compile_source", lambda *a: b"code")
    assert compiler.machine_code("importance_impute", "", "sm_61") == b"code"


def test_processes_may_fill_the_cache_at_once(tmp_path):
    pytest.importorskip("cuda.core")
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=compile_into, args=(tmp_path, results)) for _ in range(2)]
    for process in processes:
        process.start()
    codes = [results.get(timeout=200) for _ in processes]
    for process in processes:
        process.join()
    assert len(set(codes)) == 1
    assert len(list((tmp_path / "cuda").iterdir())) == 1


# ---- what cannot run ------------------------------------------------------------------------------------------------


def test_wrong_places_are_named():
    case = random_case(MIXED, 2, 10)
    with pytest.raises(ValueError, match="backend='cuda' of importance_impute takes float32 tensors on a CUDA GPU"):
        run_op(case, torch.float32, "cuda")
    with pytest.raises(ValueError, match="backend='cuda' of fill_unobserved takes float32 tensors on a CUDA GPU"):
        fill_unobserved(case.x, case.mask, None, MIXED, backend="cuda")
    with pytest.raises(ValueError, match="backend='triton' of fill_unobserved takes float32 tensors on a CUDA GPU"):
        fill_unobserved(case.x, case.mask, None, MIXED, backend="triton")
    with pytest.raises(ValueError, match="backend='cuda' needs device='cuda', got device='auto'"):
        VSAEImputer(backend="cuda").fit([[1.0, 2.0], [3.0, float("nan")]])
    with pytest.raises(ValueError, match=r"capability 6.0 \(Pascal\) or newer, this one has 5.2"):
        compiler.check_capability((5, 2))


def test_missing_compiler_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cuda.core", None)
    with pytest.raises(ImportError, match=r"pip install 'vsae_fast\[cuda\]'"):
        compiler.compile_source("importance_impute", prelude(), "sm_61")


# ---- on a GPU -------------------------------------------------------------------------------------------------------

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def on_gpu(case, **options):
    (mean, scale, x, mask, noise, decoders), keywords = case.arguments(torch.float32)
    device = torch.device("cuda")
    context = keywords["context"]
    return importance_impute(
        *(t.to(device) for t in (mean, scale, x, mask, noise)), decoders.to(torch.float32, device),
        context=None if context is None else context.to(device), backend="cuda", **options,
    )  # fmt: skip


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("n_rows", [1, 3, 1000])
@pytest.mark.parametrize("layout", [NUMERICAL_12, CATEGORICAL, MIXED, MANY, WIDE])
def test_importance_impute_on_the_gpu(layout, n_rows):
    case = random_case(layout, n_rows, 1000, context=True)
    truth = run_op(case, torch.float64, "reference")
    result = Imputation(*(field.cpu() for field in on_gpu(case)))
    relative = (result.imputed.double() - truth.imputed).norm() / truth.imputed.norm()
    assert relative <= tolerances.GPU_FLOAT32_RELATIVE
    assert errors(result, truth)["log_evidence"] <= tolerances.LOG_EVIDENCE_RELATIVE


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("n_rows", [1, 3, 1000])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("config", [NetworkConfig(), AUTO], ids=["paper", "auto"])
def test_propose_on_the_gpu(config, layout, n_rows, generator):
    model = trained_like(LAYOUTS[layout], config, generator)
    x, mask = (t.float() for t in random_rows(LAYOUTS[layout], n_rows, generator))
    _, _, truth = both_proposals(model, x, mask)
    encoders = model.folded_encoders(torch.float32).to(torch.float32, torch.device("cuda"))
    ours = propose(x.cuda(), mask.cuda(), encoders, backend="cuda")
    for name in ("mean", "scale", "context"):
        exact = getattr(truth, name)
        if exact is not None:
            error = (getattr(ours, name).cpu().double() - exact).norm() / exact.norm()
            assert error <= tolerances.GPU_FLOAT32_RELATIVE, name


@needs_gpu
@pytest.mark.gpu
def test_imputer_on_the_gpu_agrees_with_the_cpu(generator):
    x = torch.randn(200, 4, generator=generator).double().numpy()
    x[:, 1] = x[:, 0] + 0.1 * x[:, 1]
    x[::3, 1] = float("nan")
    imputer = VSAEImputer(preset="paper", epochs=20, random_state=0).fit(x)
    on_cpu = imputer.transform(x)
    imputer.set_params(device="cuda", backend="cuda")
    assert abs(imputer.transform(x) - on_cpu).max() <= 1e-4
