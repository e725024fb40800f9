"""What runs on a device that is not the CPU: tensors come back there, files and networks move, no step is waited for.

Run by tests/test_other_device.py in a process of its own, as torch registers a device for good.
"""

import pickle
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import vsae_fast
from tests import training_ops
from tests.cuda_emulation import compile_kernels
from tests.other_device.device import DEVICE, OtherTensor, kernels, launch_with, other_device, waits
from tests.other_device.graphs import Graph, graph_capture
from tests.random_models import MIXED, random_rows
from vsae_fast import VSAEImputer
from vsae_fast.baseline_objectives import EvidenceBound, ImportanceWeighted, Subsampled
from vsae_fast.models.autoencoder import Autoencoder
from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.hivae import HIVAE
from vsae_fast.models.mvae import MVAE
from vsae_fast.models.vae import CVAE, MIWAE, VAE
from vsae_fast.models.vsae import VSAE
from vsae_fast.objective import HideAndScore, TwoPhase
from vsae_fast.ops.draws import TorchDraws
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.torch_training import TorchTrainer
from vsae_fast.training import TrainingPlan, train

QUICK = {"epochs": 2, "n_models": 1, "n_samples": 20, "random_state": 0}


@pytest.fixture(autouse=True)
def device(monkeypatch):
    """The device exists, and ``device="cuda"`` names it."""
    monkeypatch.setattr(
        "vsae_fast.placement.resolve_device", lambda name: DEVICE if name == "cuda" else torch.device("cpu")
    )
    with other_device() as found:
        yield found


@pytest.fixture
def x():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 3, generator=generator)
    x[:, 2] = torch.randint(3, (60,), generator=generator)
    x[::3, 1] = torch.nan
    x[1::7, 2] = torch.nan
    return x


def on(device, **changes):
    return VSAEImputer(device=device, schema={"x2": "categorical"}, **{**QUICK, **changes})


def assert_completed(completed, x):
    assert completed.device == x.device
    assert completed.dtype == x.dtype
    observed = ~torch.isnan(x.cpu())
    assert torch.equal(completed.cpu()[observed], x.cpu()[observed])
    assert not torch.isnan(completed.cpu()).any()


def test_the_device_refuses_what_a_gpu_refuses(device):
    here = torch.ones(3, device=device)
    assert isinstance(here, OtherTensor)
    with pytest.raises(RuntimeError, match="same device"):
        here + torch.ones(3)
    with pytest.raises(RuntimeError):
        here.numpy()
    waits.clear()
    here.sum().item()
    torch.ones(3).to(device)
    here.cpu()
    assert len(waits) == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("trained_on", ["cpu", "cuda"])
def test_a_tensor_comes_back_on_its_device(x, device, trained_on, dtype):
    here = x.to(device, dtype)
    imputer = on(trained_on)
    assert_completed(imputer.fit_transform(here), here)
    assert_completed(imputer.sample(here, 2)[1], here)
    assert_completed(imputer.transform(x), x)


def test_masks_and_draws_on_the_device(x, device):
    whole = torch.nan_to_num(x)
    mask = ~torch.isnan(x)
    draws = vsae_fast.impute(whole.to(device), mask.to(device), n_imputations=2, **QUICK)
    for drawn in draws:
        assert drawn.device == device
        assert torch.equal(drawn.cpu()[mask], whole[mask])


def test_attributes_of_blocks_keep_their_devices(x, device):
    part = x[:, :1].to(device)
    completed = vsae_fast.impute({"a": part, "b": x[:, 1]}, **QUICK)
    assert completed["a"].device == device
    assert completed["b"].device.type == "cpu"


def test_a_file_written_on_one_device_loads_on_the_other(x, device, tmp_path):
    on_cpu = on("cpu").fit(x)
    on_cpu.save(tmp_path / "cpu")
    moved = VSAEImputer.load(tmp_path / "cpu").set_params(device="cuda")
    torch.testing.assert_close(moved.transform(x), on_cpu.transform(x), rtol=1e-4, atol=1e-4)
    assert moved.models_[0].decoders.raw_scale.device == device
    trained = on("cuda").fit(x)
    assert trained.models_[0].decoders.raw_scale.device == device
    trained.save(tmp_path / "other")
    expected = trained.transform(x)
    for back in (VSAEImputer.load(tmp_path / "other"), pickle.loads(pickle.dumps(trained))):
        back.set_params(device="cpu")
        torch.testing.assert_close(back.transform(x), expected, rtol=1e-4, atol=1e-4)
        assert back.models_[0].decoders.raw_scale.device.type == "cpu"


def test_the_rest_of_the_estimator(x):
    x = torch.where((x > 1) & (torch.arange(3) == 0), torch.nan, x)
    imputer = on("cuda", self_masking=["x0"]).fit(x)
    assert np.isfinite(imputer.score(x))
    assert len(imputer.effective_sample_size(x)) == len(x)
    further = imputer.set_params(warm_start=True).fit(x)
    assert len(further.history_[0].epoch) == 4
    paper = on("cuda", preset="paper")
    assert_completed(paper.fit_transform(x), x)


@pytest.mark.parametrize("objective", [TwoPhase(warmup_epochs=0), TwoPhase(warmup_epochs=9), HideAndScore(n_samples=4)])
def test_no_training_step_is_waited_for(device, objective):
    torch.manual_seed(0)
    model = VSAE(MIXED, NetworkConfig(collective_hidden=(8,), data_hidden=(8,))).to(device)
    x, mask = (t.float().to(device) for t in random_rows(MIXED, 40, torch.Generator().manual_seed(0), observed=0.7))
    draws = TorchDraws(torch.Generator(device).manual_seed(0))
    trainer = TorchTrainer(model, objective, x, mask, draws=draws, clip_norm=1.0)
    rows = torch.arange(30, device=device)
    trainer.step(rows, 0, 1e-3)  # tables of the layout are copied once
    waits.clear()
    loss = trainer.step(rows, 0, 1e-3)
    assert waits == []
    assert np.isfinite(loss.item())


@pytest.mark.parametrize("model", [Autoencoder, VAE, CVAE, MVAE, HIVAE, MIWAE])
def test_baselines_train_and_impute_there(device, model):
    torch.manual_seed(0)
    network = model(MIXED, NetworkConfig(collective_hidden=(8,), data_hidden=(8,))).to(device)
    x, mask = (t.float().to(device) for t in random_rows(MIXED, 40, torch.Generator().manual_seed(0), observed=0.7))
    objective = {MVAE: Subsampled(), MIWAE: ImportanceWeighted()}.get(model, EvidenceBound())
    plan = TrainingPlan(epochs=2, validation_fraction=0.3)
    history = train(network, x, mask, objective, plan, torch.Generator(device).manual_seed(0))
    assert np.isfinite([*history.loss, *history.score]).all()
    noise = torch.randn(7, network.n_latent, device=device)
    imputed = network.impute(x, mask, noise, fill_noise=torch.zeros_like(x)).imputed
    assert imputed.device == device
    assert torch.isfinite(imputed.cpu()).all()


# ---- CUDA graphs ----------------------------------------------------------------------------------------------------

OBJECTIVES = {"paper": TwoPhase(warmup_epochs=3), "auto": HideAndScore(n_samples=4)}


def trained(device, objective, graphs, update=None):
    """Losses and parameters after six epochs of two whole batches and a small one, at a rate that changes."""
    torch.manual_seed(0)
    auto = isinstance(objective, HideAndScore)
    config = NetworkConfig(collective_hidden=(8,), data_hidden=(8,), skip=auto, fill="zero" if auto else "noise")
    model = VSAE(MIXED, config).to(device)
    x, mask = (t.float().to(device) for t in random_rows(MIXED, 40, torch.Generator().manual_seed(0), observed=0.7))
    draws = TorchDraws(torch.Generator(device).manual_seed(5))
    trainer = TorchTrainer(model, objective, x, mask, draws=draws, weight_decay=0.01, clip_norm=1.0, graphs=graphs)
    if update is not None:
        update(trainer)
    losses = []
    for epoch in range(6):
        order = torch.randperm(40, generator=torch.Generator().manual_seed(epoch)).to(device)
        losses += [
            trainer.step(rows, epoch, 2.0 ** -(7 + (step + epoch) % 4)).item()
            for step, rows in enumerate(order.split(16))
        ]
    return losses, {name: tensor.cpu() for name, tensor in trainer.state().items()}, trainer


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=list(OBJECTIVES))
def test_graphs_train_the_same_networks(device, objective):
    plain, expected, _ = trained(device, objective, graphs=False)
    Graph.replays = 0
    with graph_capture():
        losses, got, trainer = trained(device, objective, graphs=True)
    assert trainer._graphs.works
    # Of 18 steps, two a graph are plain: of 16 rows and of 8, and again in the paper's second phase.
    assert Graph.replays == 18 - 2 * (4 if isinstance(objective, TwoPhase) else 2)
    assert losses == plain
    assert got.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in got.items())


def waiting(trainer):
    own = trainer._graphs._update

    def update(rows, epoch):
        loss = own(rows, epoch)
        loss.item()
        return loss

    trainer._graphs._update = update


def from_python(trainer):
    """An update with a number that no graph sees change."""
    own, seen = trainer._graphs._update, []

    def update(rows, epoch):
        seen.append(epoch)
        trainer._optimizer.param_groups[0]["lr"] = 1e-3 * len(seen)
        return own(rows, epoch)

    trainer._graphs._update = update


@pytest.mark.parametrize(
    ("update", "reason"), [(waiting, "not permitted when stream is capturing"), (from_python, "not the plain one")]
)
def test_steps_that_no_graph_can_take_are_taken_plainly(device, update, reason, caplog):
    objective = HideAndScore(n_samples=4)
    with graph_capture(), caplog.at_level("WARNING", logger="vsae_fast"):
        losses, got, trainer = trained(device, objective, graphs=True, update=update)
    assert not trainer._graphs.works
    assert [reason in record.message for record in caplog.records] == [True]
    if update is waiting:  # nothing of the attempt is left behind
        plain, expected, _ = trained(device, objective, graphs=False)
        assert losses == plain
        assert all(torch.equal(tensor, expected[name]) for name, tensor in got.items())


# ---- CUDA kernels, whose launches are emulated ----------------------------------------------------------------------

NUMBERS = AttributeLayout(("numerical",) * 3, (1, 1, 1))


@pytest.fixture
def emulated(tmp_path, monkeypatch):
    """backend="cuda" of the ops of training takes tensors of the device; gives the kernels that were launched."""
    used = []

    @cache
    def load(kernel, prelude, device, threads):
        assert device == DEVICE
        launch = launch_with(compile_kernels(prelude, f"{kernel}.cu", tmp_path))
        return SimpleNamespace(launch=lambda name, *rest: used.append(name) or launch(name, *rest))

    with training_ops.once_more_on_the_cpu("cuda") as library:
        for name, module in training_ops.DIFFERENTIABLE.items():
            op = getattr(getattr(torch.ops, library.ns), name).default
            monkeypatch.setitem(kernels, op, module._cuda)
        for name in (*training_ops.DIFFERENTIABLE, "sample_moments"):
            monkeypatch.setattr(f"vsae_fast.cuda.{name}.load", load)
        training_ops.take_tensors_on_the_cpu(monkeypatch, "cuda", library)
        yield used


def test_graphs_of_cuda_kernels(device, emulated):
    """Both phases: what the kernels' launches need stays on the device, and graphs train the same networks."""

    def train(graphs):
        torch.manual_seed(0)
        config = NetworkConfig(
            latent_per_attribute=2, numerical_hidden=(4,), collective_hidden=(8,), mask_hidden=(4,), data_hidden=(8,)
        )
        model = VSAE(NUMBERS, config).to(device)
        x, mask = (t.float().to(device) for t in random_rows(NUMBERS, 20, torch.Generator().manual_seed(0)))
        draws = TorchDraws(torch.Generator(device).manual_seed(5))
        objective = TwoPhase(warmup_epochs=2, n_unobserved_samples=3)
        trainer = TorchTrainer(model, objective, x, mask, draws=draws, backend="cuda", graphs=graphs)
        losses, waited = [], []
        for epoch in range(4):
            for rows in torch.arange(20).to(device).split(10):
                waits.clear()
                losses.append(trainer.step(rows, epoch, 2.0**-7))
                waited.append(bool(waits))
        return [loss.item() for loss in losses], waited, trainer

    plain, waited, _ = train(graphs=False)
    assert not any(waited[1:4] + waited[5:])  # the first step of a phase copies its tables
    assert set(emulated) == {
        "grouped_layer", "grouped_statistics", "grouped_layer_backward", "add_up", "elbo", "elbo_backward",
        "fill_unobserved", "sample_moments",
    }  # fmt: skip
    Graph.replays = 0
    with graph_capture():
        losses, waited, trainer = train(graphs=True)
    assert trainer._graphs.works
    assert Graph.replays == 4
    assert not any([waited[1], waited[3], waited[5], waited[7]])  # a graph's first step is held to the plain one
    assert losses == plain
