"""CUDA kernels of training without a GPU: results and gradients through torch's own autograd, kernels on the host."""

from functools import cache
from types import SimpleNamespace

import pytest
import torch

from tests import training_ops
from tests.cuda_emulation import compile_kernels
from tests.random_models import CATEGORICAL, MIXED, NUMERICAL_12, random_case, random_rows
from tests.test_cuda import ARCHITECTURES, needs_gpu, within_budget
from tests.test_elbo import arguments, bound_and_gradients
from tests.test_grouped_mlp import networks as networks  # a fixture
from tests.test_sample_moments import BLOCKS, WIDE_BLOCKS
from tests.training_ops import assert_as_good_as_eager
from vsae_fast.cuda import elbo as cuda_elbo
from vsae_fast.cuda.grouped_mlp import Layer, layers_of
from vsae_fast.cuda.sample_moments import CudaSampling
from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.vsae import VSAE
from vsae_fast.objective import HideAndScore, TwoPhase
from vsae_fast.ops.draws import StreamDraws, TorchDraws
from vsae_fast.ops.elbo import elbo
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.torch_training import TorchTrainer


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Kernels for the host, kept as long as the module's tests."""
    folder = tmp_path_factory.mktemp("emulation")

    @cache
    def load(kernel, prelude):
        return SimpleNamespace(launch=compile_kernels(prelude, f"{kernel}.cu", folder))

    return load


@pytest.fixture(scope="module")
def library():
    with training_ops.once_more_on_the_cpu("cuda") as library:
        yield library


@pytest.fixture
def emulated(compiled, library, monkeypatch):
    """backend="cuda" of the ops of training takes tensors on the CPU; gives the names of the kernels that were used."""
    used = []

    def load(kernel, prelude, device, threads):
        assert threads == 128
        used.append(kernel)
        return compiled(kernel, prelude)

    for name in (*training_ops.DIFFERENTIABLE, "sample_moments"):
        monkeypatch.setattr(f"vsae_fast.cuda.{name}.load", load)
    training_ops.take_tensors_on_the_cpu(monkeypatch, "cuda", library)
    return used


@pytest.mark.parametrize("layout", [MIXED, NUMERICAL_12])
@pytest.mark.parametrize("noise_shape", [None, (0,), (1, 0), (17, 0)])
def test_fill_unobserved_is_the_reference(layout, noise_shape, emulated, generator):
    training_ops.check_fill_unobserved("cuda", layout, noise_shape, generator)
    assert emulated == ["fill_unobserved"] * 3


# ---- elbo -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", [False, True])
@pytest.mark.parametrize("weight", ["mask", "other"])
@pytest.mark.parametrize(("n_rows", "n_samples"), [(1, 0), (17, 0), (1, 1), (5, 3), (3, 50)])
@pytest.mark.parametrize(
    "layout", [MIXED, CATEGORICAL, NUMERICAL_12, WIDE_BLOCKS], ids=["mixed", "levels", "numbers", "blocks"]
)
def test_elbo_is_as_good_as_eager(layout, n_rows, n_samples, weight, variance, emulated, generator):
    training_ops.check_elbo("cuda", layout, n_rows, n_samples, generator, weight=weight, variance=variance)
    assert set(emulated) == {"elbo", "add_up"}


@pytest.mark.parametrize("n_samples", [0, 3])
def test_elbo_never_reads_what_has_no_weight(n_samples, emulated, generator):
    training_ops.check_elbo_never_reads_what_has_no_weight("cuda", n_samples, generator)


def test_elbo_of_too_many_samples_is_named(emulated, generator):
    case = {name: None if t is None else t.float() for name, t in arguments(MIXED, 1, 1025, generator).items()}
    with pytest.raises(ValueError, match="elbo takes at most 1024 samples, got 1025"):
        elbo(layout=MIXED, backend="cuda", **case)
    assert cuda_elbo.MOST_SAMPLES == 1024


# ---- grouped_mlp ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [1, 2, 17, 30])
@pytest.mark.parametrize("training", [True, False])
def test_grouped_mlp_is_as_good_as_eager(networks, training, n_rows, emulated):
    training_ops.check_grouped_mlp("cuda", networks, training, n_rows)
    assert set(emulated) == {"grouped_mlp", "add_up"}


@pytest.mark.parametrize("tile", [8, 16, 32])
@pytest.mark.parametrize("sizes", [(1, 16, 16, 16, 4), (7, 33, 2), (3, 2), (150, 40, 130, 3)])
def test_grouped_mlp_of_other_sizes_and_tiles(sizes, tile, emulated, generator, monkeypatch):
    monkeypatch.setattr("vsae_fast.cuda.grouped_mlp.TILES", (tile,))
    training_ops.check_grouped_mlp("cuda", training_ops.networks_of(sizes, 45, generator), n_rows=45)


@pytest.mark.parametrize("n_observed", [0, 1])
def test_grouped_mlp_with_too_few_observed_rows(networks, n_observed, emulated):
    training_ops.check_grouped_mlp("cuda", training_ops.with_few_observed(networks, n_observed))


def test_grouped_mlp_never_reads_unobserved_inputs(networks, emulated):
    training_ops.check_grouped_mlp_never_reads_unobserved_inputs("cuda", networks)


def test_grouped_mlp_too_wide_for_shared_memory_is_named():
    with pytest.raises(ValueError, match=r"networks of widths \[4, 2000, 2\] take \d+ KiB; use backend='reference'"):
        layers_of([4, 2000, 2], 64, 3)


# ---- sample_moments, and a whole step -------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("n_samples", [1, 10, 37])
@pytest.mark.parametrize(
    "layout", [MIXED, NUMERICAL_12, CATEGORICAL, BLOCKS, WIDE_BLOCKS],
    ids=["mixed", "numbers", "levels", "blocks", "wide-blocks"],
)  # fmt: skip
def test_sample_moments_are_as_good_as_eager(layout, n_samples, context, emulated):
    training_ops.check_sample_moments("cuda", layout, n_samples, context)
    assert emulated == ["sample_moments"]


@pytest.mark.parametrize("objective", [HideAndScore(), TwoPhase(warmup_epochs=1)], ids=["auto", "paper"])
def test_steps_on_cuda_kernels_follow_the_float64_reference(objective, emulated, generator):
    training_ops.check_steps("cuda", objective, generator)
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
@pytest.mark.parametrize("backend", ["cuda", "triton"])
@pytest.mark.parametrize("objective", [HideAndScore(), TwoPhase(warmup_epochs=1)], ids=["auto", "paper"])
def test_training_on_the_gpu_follows_the_reference(objective, backend, generator):
    x, mask = (t.float().cuda() for t in random_rows(MIXED, 300, generator))
    losses = {}
    for which in ("reference", backend):
        torch.manual_seed(0)
        skip = isinstance(objective, HideAndScore)
        model = VSAE(MIXED, NetworkConfig(skip=skip, fill="zero" if skip else "noise")).cuda()
        trainer = TorchTrainer(model, objective, x, mask, draws=StreamDraws(3), backend=which)
        losses[which] = [float(trainer.step(torch.arange(300).cuda(), epoch, 1e-3)) for epoch in range(5)]
    assert losses[backend] == pytest.approx(losses["reference"], rel=1e-3 if backend == "cuda" else 1e-2)


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["cuda", "triton"])
@pytest.mark.parametrize("objective", [HideAndScore(), TwoPhase(warmup_epochs=1)], ids=["auto", "paper"])
def test_a_step_does_not_wait_for_the_gpu(objective, backend, generator):
    x, mask = (t.float().cuda() for t in random_rows(MIXED, 300, generator))
    model = VSAE(MIXED, NetworkConfig(skip=isinstance(objective, HideAndScore))).cuda()
    draws = TorchDraws(torch.Generator("cuda").manual_seed(0))
    trainer = TorchTrainer(model, objective, x, mask, draws=draws, backend=backend)
    rows = torch.arange(64).cuda()
    for epoch in (0, 1):  # kernels are compiled and tables copied
        trainer.step(rows, epoch, 1e-3)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for epoch in (0, 1):
            trainer.step(rows, epoch, 1e-3)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["reference", "cuda", "triton"])
@pytest.mark.parametrize("objective", [HideAndScore(), TwoPhase(warmup_epochs=4)], ids=["auto", "paper"])
def test_graphs_train_as_plain_steps_do(objective, backend, generator):
    x, mask = (t.float().cuda() for t in random_rows(MIXED, 150, generator))
    losses = {}
    for graphs in (False, True):
        torch.manual_seed(0)
        model = VSAE(MIXED, NetworkConfig(skip=isinstance(objective, HideAndScore))).cuda()
        draws = TorchDraws(torch.Generator("cuda").manual_seed(0))
        trainer = TorchTrainer(model, objective, x, mask, draws=draws, backend=backend, clip_norm=1.0, graphs=graphs)
        order = torch.arange(150).cuda()
        losses[graphs] = [
            float(trainer.step(rows, epoch, 2.0 ** -(9 + epoch % 3))) for epoch in range(8) for rows in order.split(64)
        ]
    assert trainer._graphs.works
    assert len(trainer._graphs._captured) == (4 if isinstance(objective, TwoPhase) else 2)
    assert losses[True] == pytest.approx(losses[False], rel=1e-3)


def test_layers_share_one_tile():
    layers = layers_of([3, 5, 4, 2], 64, 12)
    assert layers == [Layer(3, 5, False, False, 8), Layer(5, 4, True, False, 8), Layer(4, 2, True, True, 8)]
    assert layers_of([3, 5, 2], 1_000_000, 12)[0].tile == 64
