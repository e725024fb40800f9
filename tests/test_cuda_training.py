"""CUDA kernels of training without a GPU: results and gradients through torch's own autograd, kernels on the host."""

from functools import cache
from importlib import import_module
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from tests import tolerances
from tests.cuda_emulation import compile_kernels
from tests.random_models import CATEGORICAL, MIXED, NUMERICAL_12, random_case, random_rows
from tests.test_cuda import ARCHITECTURES, needs_gpu, within_budget
from tests.test_elbo import arguments, bound_and_gradients
from tests.test_grouped_mlp import networks as networks  # a fixture
from tests.test_grouped_mlp import run as run_grouped_mlp
from tests.test_sample_moments import BLOCKS, WIDE_BLOCKS
from vsae_fast.cuda import elbo as cuda_elbo
from vsae_fast.cuda.grouped_mlp import Layer, layers_of
from vsae_fast.cuda.sample_moments import CudaSampling
from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.vsae import VSAE
from vsae_fast.objective import HideAndScore, TwoPhase
from vsae_fast.ops.draws import StreamDraws
from vsae_fast.ops.elbo import elbo
from vsae_fast.ops.fill_unobserved import fill_unobserved
from vsae_fast.ops.grouped_mlp import BatchNormState
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.ops.sample_moments import sample_moments
from vsae_fast.training import TorchTrainer

DIFFERENTIABLE = {name: import_module(f"vsae_fast.ops.{name}") for name in ("elbo", "fill_unobserved", "grouped_mlp")}
SAMPLING = import_module("vsae_fast.ops.sample_moments")


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """The differentiable ops once more, on kernels that run on the host: kept, as torch forgets no op."""
    folder = tmp_path_factory.mktemp("emulation")

    @cache
    def compiled(kernel, prelude):
        return SimpleNamespace(launch=compile_kernels(prelude, f"{kernel}.cu", folder))

    library = torch.library.Library("vsae_fast_emulated", "DEF")
    for name, module in DIFFERENTIABLE.items():
        schema = str(getattr(torch.ops.vsae_fast, name).default._schema).removeprefix("vsae_fast::")
        library.define(schema)
        library.impl(name, module._cuda, "CPU")
        torch.library.register_autograd(
            f"vsae_fast_emulated::{name}", module._backward, setup_context=module._setup_context, lib=library
        )
    yield compiled
    library._destroy()


@pytest.fixture
def emulated(libraries, monkeypatch):
    """backend="cuda" of the ops of training takes tensors on the CPU; gives the names of the kernels that were used."""
    used = []

    def load(kernel, prelude, device, threads):
        assert threads == 128
        used.append(kernel)
        return libraries(kernel, prelude)

    for name in ("elbo", "fill_unobserved", "grouped_mlp", "sample_moments"):
        monkeypatch.setattr(f"vsae_fast.cuda.{name}.load", load)
    for name, module in DIFFERENTIABLE.items():
        op = getattr(torch.ops.vsae_fast_emulated, name)
        _choose(monkeypatch, module.OP, op)
        # What autograd calls on the way back.
        monkeypatch.setattr(torch.ops.vsae_fast, f"{name}_backward", module._backward_cuda)
    _choose(monkeypatch, SAMPLING.OP, SAMPLING._cuda)
    return used


def _choose(monkeypatch, op, kernel):
    from vsae_fast.ops import registry

    usual = op.select

    def select(backend, tensor):
        preferred = registry._preferred.get() if backend == "auto" else backend
        return kernel if preferred == "cuda" and tensor.dtype == torch.float32 else usual(backend, tensor)

    monkeypatch.setattr(op, "select", select)


def assert_as_good_as_eager(ours, eager, truth):
    for a, b, exact in zip(ours, eager, truth, strict=True):
        scale = max(exact.abs().max().item(), 1.0) if exact.numel() else 1.0
        worst = (b - exact).abs().max().item() if exact.numel() else 0.0
        allowed = tolerances.TIMES_EAGER * max(worst, tolerances.GRADIENT_FLOOR * scale)
        assert a.shape == exact.shape
        assert not a.numel() or (a - exact).abs().max().item() <= allowed


# ---- fill_unobserved ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [MIXED, NUMERICAL_12])
@pytest.mark.parametrize("noise_shape", [None, (0,), (1, 0), (17, 0)])
def test_fill_unobserved_is_the_reference(layout, noise_shape, emulated, generator):
    x, mask = (t.float() for t in random_rows(layout, 17, generator))
    noise = None if noise_shape is None else torch.randn(*noise_shape[:-1], layout.n_columns, generator=generator)
    x = torch.where(layout.expand(mask) > 0, x, torch.nan)
    results = {}
    for backend in ("cuda", "reference"):
        own = x.clone().requires_grad_()
        filled = fill_unobserved(own, mask, noise, layout, backend)
        (filled * torch.arange(filled.numel()).view_as(filled)).sum().backward()
        results[backend] = (filled, own.grad)
    for ours, theirs in zip(results["cuda"], results["reference"], strict=True):
        assert torch.equal(ours, theirs)
    assert emulated == ["fill_unobserved"] * 2
    assert fill_unobserved(x[:0], mask[:0], None, layout, "cuda").shape[0] == 0


# ---- elbo -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", [False, True])
@pytest.mark.parametrize("weight", ["mask", "other"])
@pytest.mark.parametrize(("n_rows", "n_samples"), [(1, 0), (17, 0), (1, 1), (5, 3), (3, 50)])
@pytest.mark.parametrize(
    "layout", [MIXED, CATEGORICAL, NUMERICAL_12, WIDE_BLOCKS], ids=["mixed", "levels", "numbers", "blocks"]
)
def test_elbo_is_as_good_as_eager(layout, n_rows, n_samples, weight, variance, emulated, generator):
    case = arguments(layout, n_rows, n_samples, generator, weight=weight, variance=variance)
    truth = bound_and_gradients(case, layout, "reference", torch.float64)
    eager = bound_and_gradients(case, layout, "reference", torch.float32)
    assert_as_good_as_eager(bound_and_gradients(case, layout, "cuda", torch.float32), eager, truth)
    assert set(emulated) == {"elbo", "add_up"}


@pytest.mark.parametrize("n_samples", [0, 3])
def test_elbo_never_reads_what_has_no_weight(n_samples, emulated, generator):
    case = arguments(MIXED, 9, n_samples, generator)
    clean = bound_and_gradients(case, MIXED, "cuda", torch.float32)
    case["target"] = torch.where(MIXED.expand(case["mask"]) > 0, case["target"], torch.nan)
    dirty = bound_and_gradients(case, MIXED, "cuda", torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(clean, dirty, strict=True))


def test_elbo_of_too_many_samples_is_named(emulated, generator):
    case = {name: None if t is None else t.float() for name, t in arguments(MIXED, 1, 1025, generator).items()}
    with pytest.raises(ValueError, match="elbo takes at most 1024 samples, got 1025"):
        elbo(layout=MIXED, backend="cuda", **case)
    assert cuda_elbo.MOST_SAMPLES == 1024


# ---- grouped_mlp ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [1, 2, 17, 30])
@pytest.mark.parametrize("training", [True, False])
def test_grouped_mlp_is_as_good_as_eager(networks, training, n_rows, emulated):
    truth = run_grouped_mlp(networks, "reference", torch.float64, training, n_rows)
    eager = run_grouped_mlp(networks, "reference", torch.float32, training, n_rows)
    assert_as_good_as_eager(run_grouped_mlp(networks, "cuda", torch.float32, training, n_rows), eager, truth)
    assert set(emulated) == {"grouped_mlp", "add_up"}


@pytest.mark.parametrize("tile", [8, 16, 32])
@pytest.mark.parametrize("sizes", [(1, 16, 16, 16, 4), (7, 33, 2), (3, 2), (150, 40, 130, 3)])
def test_grouped_mlp_of_other_sizes_and_tiles(sizes, tile, emulated, generator, monkeypatch):
    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    monkeypatch.setattr("vsae_fast.cuda.grouped_mlp.TILES", (tile,))
    weights = [randn(3, a, b) / a**0.5 for a, b in pairwise(sizes)]
    biases = [randn(3, b) for b in sizes[1:]]
    ones, zeros = (lambda h: torch.ones(3, h).double()), (lambda h: torch.zeros(3, h).double())
    norms = [BatchNormState(1 + 0.1 * randn(3, h), randn(3, h), zeros(h), ones(h)) for h in sizes[1:-1]]
    mask = (torch.rand(45, 3, generator=generator) < 0.6).double()
    case = (weights, biases, norms, randn(45, 3, sizes[0]), mask)
    truth, eager = (run_grouped_mlp(case, "reference", dtype, True, 45) for dtype in (torch.float64, torch.float32))
    assert_as_good_as_eager(run_grouped_mlp(case, "cuda", torch.float32, True, 45), eager, truth)


@pytest.mark.parametrize("n_observed", [0, 1])
def test_grouped_mlp_with_too_few_observed_rows(networks, n_observed, emulated):
    weights, biases, norms, x, mask = networks
    mask = mask.clone()
    mask[:, 1] = 0
    mask[:n_observed, 1] = 1
    case = (weights, biases, norms, x, mask)
    truth, eager = (run_grouped_mlp(case, "reference", dtype, True) for dtype in (torch.float64, torch.float32))
    assert_as_good_as_eager(run_grouped_mlp(case, "cuda", torch.float32, True), eager, truth)


def test_grouped_mlp_never_reads_unobserved_inputs(networks, emulated):
    weights, biases, norms, x, mask = networks
    clean = run_grouped_mlp(networks, "cuda", torch.float32, True)
    dirty = (weights, biases, norms, torch.where(mask.unsqueeze(-1) > 0, x, torch.nan), mask)
    for a, b in zip(clean, run_grouped_mlp(dirty, "cuda", torch.float32, True), strict=True):
        assert torch.equal(a, b)


def test_grouped_mlp_too_wide_for_shared_memory_is_named():
    with pytest.raises(ValueError, match=r"networks of widths \[4, 2000, 2\] take \d+ KiB; use backend='reference'"):
        layers_of([4, 2000, 2], 64, 3)


# ---- sample_moments -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("n_samples", [1, 10, 37])
@pytest.mark.parametrize(
    "layout", [MIXED, NUMERICAL_12, CATEGORICAL, BLOCKS, WIDE_BLOCKS],
    ids=["mixed", "numbers", "levels", "blocks", "wide-blocks"],
)  # fmt: skip
def test_sample_moments_are_as_good_as_eager(layout, n_samples, context, emulated):
    case = random_case(layout, 5, 1, context=context, data_widths=(33, 20))
    noise = torch.randn(n_samples * 5 * case.mean.shape[-1], generator=torch.Generator().manual_seed(1))
    results = {}
    for backend, dtype in (("reference", torch.float64), ("eager", torch.float32), ("cuda", torch.float32)):
        (mean, scale, *_, decoders), keywords = case.arguments(dtype)
        results[backend] = sample_moments(
            mean, scale, decoders, n_samples=n_samples, draws=Given(noise), context=keywords["context"],
            backend="reference" if backend == "eager" else backend,
        )  # fmt: skip
    assert_as_good_as_eager(results["cuda"], results["eager"], results["reference"])
    assert emulated == ["sample_moments"]


class Given:
    """The same numbers in any dtype, in their order."""

    def __init__(self, noise):
        self.noise, self.taken = noise, 0

    def normal(self, shape, like):
        n = torch.Size(shape).numel()
        self.taken += n
        return self.noise[self.taken - n : self.taken].to(like).view(shape)


# ---- a whole training step ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", [HideAndScore(), TwoPhase(warmup_epochs=1)], ids=["auto", "paper"])
def test_steps_on_cuda_kernels_follow_the_float64_reference(objective, emulated, generator):
    x, mask = random_rows(MIXED, 30, generator)
    losses = {}
    for backend, dtype in (("reference", torch.float64), ("cuda", torch.float32)):
        torch.manual_seed(0)
        skip = isinstance(objective, HideAndScore)
        model = VSAE(MIXED, NetworkConfig(skip=skip, fill="zero" if skip else "noise")).to(dtype)
        trainer = TorchTrainer(model, objective, x.to(dtype), mask.to(dtype), draws=StreamDraws(3), backend=backend)
        losses[backend] = [trainer.step(torch.arange(30), epoch, 1e-3) for epoch in (0, 1, 2)]
    for ours, exact in zip(losses["cuda"], losses["reference"], strict=True):
        assert abs(ours - exact) <= tolerances.TRAINING_RELATIVE * max(abs(exact), 1.0)
    expected = {"elbo", "add_up", "grouped_mlp", "fill_unobserved"}
    assert set(emulated) == expected | ({"sample_moments"} if isinstance(objective, TwoPhase) else set())


# ---- machine code ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_machine_code_keeps_to_the_budget(architecture):
    pytest.importorskip("cuda.core")
    for kernel in ("add_up", "elbo", "fill_unobserved"):
        within_budget(kernel, "", architecture)
    for sizes, n_rows in (([1, 16, 16, 4], 64), ([5, 64, 64, 8], 4096), ([784, 128, 128, 128, 512], 64)):
        for layer in layers_of(sizes, n_rows, 12):
            found = within_budget("grouped_mlp", layer.prelude(), architecture)
            assert max(kernel["shared_bytes"] for kernel in found.values()) == layer.shared_bytes()
    images = AttributeLayout(("numerical",) * 2, (784, 784))
    for layout, widths in ((NUMERICAL_12, (64,)), (AttributeLayout(("categorical",) * 22, (5,) * 22), (64,)),
                           (images, (128, 128, 128))):  # fmt: skip
        model = CudaSampling(random_case(layout, 1, 1, data_widths=widths).decoders)
        found = within_budget("sample_moments", model.prelude(), architecture)
        assert found["sample_moments"]["shared_bytes"] == model.shared_bytes(model.tile)


# ---- on a GPU -------------------------------------------------------------------------------------------------------


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("n_samples", [0, 10])
def test_elbo_on_the_gpu(n_samples, generator):
    case = arguments(MIXED, 200, n_samples, generator)
    truth = bound_and_gradients(case, MIXED, "reference", torch.float64)
    eager = bound_and_gradients(case, MIXED, "reference", torch.float32)
    on_gpu = {name: None if t is None else t.cuda() for name, t in case.items()}
    ours = [t.cpu() for t in bound_and_gradients(on_gpu, MIXED, "cuda", torch.float32)]
    assert_as_good_as_eager(ours, eager, truth)


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("objective", [HideAndScore(), TwoPhase(warmup_epochs=1)], ids=["auto", "paper"])
def test_training_on_the_gpu_follows_the_reference(objective, generator):
    x, mask = (t.float().cuda() for t in random_rows(MIXED, 300, generator))
    losses = {}
    for backend in ("reference", "cuda"):
        torch.manual_seed(0)
        skip = isinstance(objective, HideAndScore)
        model = VSAE(MIXED, NetworkConfig(skip=skip, fill="zero" if skip else "noise")).cuda()
        trainer = TorchTrainer(model, objective, x, mask, draws=StreamDraws(3), backend=backend)
        losses[backend] = [trainer.step(torch.arange(300).cuda(), epoch, 1e-3) for epoch in range(5)]
    assert losses["cuda"] == pytest.approx(losses["reference"], rel=1e-3)


def test_layers_share_one_tile():
    layers = layers_of([3, 5, 4, 2], 64, 12)
    assert layers == [Layer(3, 5, False, False, 8), Layer(5, 4, True, False, 8), Layer(4, 2, True, True, 8)]
    assert layers_of([3, 5, 2], 1_000_000, 12)[0].tile == 64
