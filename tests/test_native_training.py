"""The C++ trainer against the reference objectives and torch's Adam, step by step on the same noise."""

import copy
import dataclasses
import os
import statistics
import subprocess
import sys
from functools import cache

import pytest
import torch

from tests import tolerances
from tests.random_models import CATEGORICAL, MIXED, NUMERICAL_12, ONE_CATEGORY, ONE_NUMBER, random_rows
from tests.torch_threads import torch_threads
from vsae_fast import _native
from vsae_fast.baseline_objectives import EvidenceBound, Subsampled
from vsae_fast.models.autoencoder import Autoencoder
from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.hivae import HIVAE
from vsae_fast.models.mvae import MVAE
from vsae_fast.models.vae import CVAE, MIWAE, VAE
from vsae_fast.models.vsae import VSAE
from vsae_fast.native_training import NativeTrainer, supports
from vsae_fast.objective import HideAndScore, TwoPhase
from vsae_fast.ops.draws import StreamDraws
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.presets import build_preset
from vsae_fast.torch_training import TorchTrainer
from vsae_fast.training import TrainingPlan, make_trainer, train

PAPER = NetworkConfig()
AUTO = build_preset("auto", MIXED, 5000, 30_000).network
ODD = NetworkConfig(
    latent_per_attribute=3, numerical_hidden=(5,), categorical_hidden=(7, 3), collective_hidden=(17, 33),
    mask_hidden=(3,), data_hidden=(19, 5), linear_tail=False, skip=True,
)  # fmt: skip
OBJECTIVES = {"phase 1": (TwoPhase(), 0), "phase 2": (TwoPhase(n_unobserved_samples=23), 100),
              "hide-and-score": (HideAndScore(n_samples=3), 0)}  # fmt: skip
ONE_NETWORK = {"AE": Autoencoder, "VAE": VAE, "CVAE": CVAE, "MIWAE": MIWAE}
N_STEPS = 20


def setting(layout, config, n_rows=200, seed=0, build=VSAE):
    torch.manual_seed(seed)
    x, mask = random_rows(layout, n_rows, torch.Generator().manual_seed(seed + 1))
    return build(layout, config), x.float(), mask.float()


def batches(n_rows, size):
    generator = torch.Generator().manual_seed(2)
    return [torch.randperm(n_rows, generator=generator)[:size] for _ in range(N_STEPS)]


def reference_losses(model, x, mask, objective, epoch, dtype, size, **options):
    model = copy.deepcopy(model).to(dtype)
    trainer = TorchTrainer(model, objective, x.to(dtype), mask.to(dtype), draws=StreamDraws(7), **options)
    with torch_threads(1):  # two wait for each other at each small operation, four times as long on a busy machine
        return [float(trainer.step(rows, epoch, 1e-3)) for rows in batches(len(x), size)], trainer, model


def native_losses(model, x, mask, objective, epoch, size, **options):
    model = copy.deepcopy(model)
    trainer = NativeTrainer(model, objective, x, mask, max_rows=max(len(x), 256), seed=7, **options)
    return [float(trainer.step(rows, epoch, 1e-3)) for rows in batches(len(x), size)], trainer, model


def deviation(losses, truth):
    return max(abs(a - b) / max(abs(b), 1.0) for a, b in zip(losses, truth, strict=True))


def objective_of(name, build):
    if build is VSAE:
        return OBJECTIVES[name]
    return Subsampled(n_subsets=2) if build is MVAE else EvidenceBound(), 0


@cache  # some are followed more than once, by each instruction set for one
def reference_path(layout, config, n_rows, seed, build, name, dtype, size, **options):
    given = setting(layout, config, n_rows, seed, build)
    return reference_losses(*given, *objective_of(name, build), dtype, size, **options)[0]


def assert_follows_the_reference(
    layout, config, name, size=64, n_seeds=3, n_steps=N_STEPS, n_rows=200, build=VSAE, **options
):
    """The median over some seeds stays on the path of float64, or leaves it no earlier than float32 torch does.

    Adam's steps do not shrink with the gradient: where one is zero but for rounding, its sign is noise, and on some
    seeds float32 leaves the path, torch's like ours. Batch normalisation of a few one-hot levels does it on most.
    """
    objective, epoch = objective_of(name, build)

    def eager_path(seed, dtype):
        return reference_path(layout, config, n_rows, seed, build, name, dtype, size, **options)[:n_steps]

    truths = [eager_path(seed, torch.float64) for seed in range(n_seeds)]
    ours = []
    for seed, truth in enumerate(truths):
        losses, _, _ = native_losses(*setting(layout, config, n_rows, seed, build), objective, epoch, size, **options)
        assert losses[0] == pytest.approx(truth[0], rel=1e-5)
        ours.append(deviation(losses[:n_steps], truth))
    median = statistics.median(ours)
    if median > tolerances.TRAINING_RELATIVE:  # torch's own paths are needed only now, and take longer than ours
        paths = [eager_path(seed, torch.float32) for seed in range(n_seeds)]
        eagers = [deviation(path, truth) for path, truth in zip(paths, truths, strict=True)]
        assert median <= tolerances.TIMES_EAGER * statistics.median(eagers), (ours, eagers)
    return median


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("config", [PAPER, AUTO, ODD], ids=["paper", "auto", "odd"])
@pytest.mark.parametrize("layout", [NUMERICAL_12, MIXED, CATEGORICAL], ids=["numbers", "mixed", "levels"])
def test_first_losses(layout, config, name):
    assert_follows_the_reference(layout, config, name)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("config", [PAPER, AUTO], ids=["paper", "auto"])
def test_first_losses_on_numbers_are_within_the_bar(config, name):
    assert assert_follows_the_reference(NUMERICAL_12, config, name, n_seeds=5) <= tolerances.TRAINING_RELATIVE


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_instruction_set(name, level):
    assert_follows_the_reference(MIXED, ODD, name)


@pytest.mark.parametrize("layout", [MIXED, NUMERICAL_12], ids=["mixed", "numbers"])
def test_expected_values_stay_within_the_limit(layout, monkeypatch):
    model, x, mask = setting(layout, PAPER)
    last = model.decoders.data.linears[-1]
    with torch.no_grad():
        last.bias.copy_(torch.linspace(-60, 60, layout.n_columns))
        last.weight.mul_(40)
    given = model, x, mask, *OBJECTIVES["phase 2"]
    ours = native_losses(*given, 64)[0][0]
    assert ours == pytest.approx(reference_losses(*given, torch.float64, 64)[0][0], rel=1e-5)
    monkeypatch.setattr("vsae_fast.objective.TARGET_LIMIT", 1e9)
    assert reference_losses(*given, torch.float64, 64)[0][0] != pytest.approx(ours, rel=0.05)


@pytest.mark.parametrize("layout", [ONE_NUMBER, ONE_CATEGORY], ids=["one number", "one category"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_single_attributes(layout, name):
    assert_follows_the_reference(layout, ODD, name)


@pytest.mark.parametrize(("size", "n_seeds"), [(3, 9), (65, 3)])
def test_batch_sizes(size, n_seeds):
    """With three rows to normalise a quarter of the seeds leave the path, torch's too: a median of more."""
    assert_follows_the_reference(NUMERICAL_12, ODD, "hide-and-score", size, n_seeds)


@pytest.mark.parametrize("size", [171, 300])
@pytest.mark.parametrize("name", ["phase 1", "hide-and-score"])
def test_batches_in_parts(name, size):
    """From 512 rows on, samples times batch, and from 256 rows of wide layers, sums over rows are sums over parts."""
    wide = dataclasses.replace(ODD, collective_hidden=(130, 64), data_hidden=(97, 33))
    assert_follows_the_reference(MIXED, wide, name, size, n_rows=400)


def test_batches_of_two_rows():
    """Normalising two rows leaves but the sign of their difference: paths part within some steps, torch's too."""
    assert_follows_the_reference(NUMERICAL_12, ODD, "hide-and-score", 2, n_seeds=9, n_steps=3)


def test_weight_decay_and_clipping():
    assert_follows_the_reference(NUMERICAL_12, AUTO, "hide-and-score", weight_decay=1.0, clip_norm=0.5)


@pytest.mark.parametrize("build", ONE_NETWORK.values(), ids=list(ONE_NETWORK))
@pytest.mark.parametrize("config", [PAPER, ODD], ids=["paper", "odd"])
@pytest.mark.parametrize("layout", [NUMERICAL_12, MIXED], ids=["numbers", "mixed"])
def test_models_of_one_network(layout, config, build):
    assert_follows_the_reference(layout, config, "bound", build=build)


@pytest.mark.parametrize("config", [PAPER, ODD], ids=["paper", "odd"])
@pytest.mark.parametrize("layout", [NUMERICAL_12, MIXED, ONE_NUMBER], ids=["numbers", "mixed", "one number"])
def test_a_product_of_experts(layout, config):
    assert_follows_the_reference(layout, config, "bound", build=MVAE)


def test_a_product_of_two_experts_with_extreme_log_variances():
    """Cut off at their limits, where they have no gradient; two attributes have no random subsets."""
    layout = AttributeLayout(("numerical", "categorical"), (5, 3))
    model, x, mask = setting(layout, ODD, build=MVAE)
    with torch.no_grad():
        for encoder in model.experts.encoders:
            encoder.biases[-1].uniform_(-12, 12)
    objective = Subsampled()
    truth, _, exact = reference_losses(model, x, mask, objective, 0, torch.float64, 64)
    losses, trainer, ours = native_losses(model, x, mask, objective, 0, 64)
    trainer.write_back()
    assert losses[0] == pytest.approx(truth[0], rel=1e-5)
    for one, other in zip(ours.experts.parameters(), exact.experts.parameters(), strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-2, atol=1e-3)


def test_an_hivae_of_categories():
    assert_follows_the_reference(CATEGORICAL, ODD, "bound", build=HIVAE, n_seeds=5)


@pytest.mark.parametrize("build", ONE_NETWORK.values(), ids=list(ONE_NETWORK))
def test_one_network_in_parts(build):
    wide = dataclasses.replace(ODD, collective_hidden=(130, 64), data_hidden=(97, 33))
    assert_follows_the_reference(MIXED, wide, "bound", 300, n_rows=400, build=build)


@pytest.mark.parametrize("name", [*OBJECTIVES, *ONE_NETWORK, "MVAE"])
@pytest.mark.parametrize("config", [PAPER, AUTO], ids=["paper", "auto"])
def test_parameters_and_score(config, name):
    """One step from the same point: parameters whose gradient is not zero agree, running statistics and score too."""
    build = {**ONE_NETWORK, "MVAE": MVAE}.get(name, VSAE)
    objective, epoch = objective_of(name, build)
    model, x, mask = setting(MIXED, config, 600, build=build)  # more rows than are scored at once
    rows = torch.arange(64)
    reference = copy.deepcopy(model)
    theirs = TorchTrainer(reference, objective, x, mask, draws=StreamDraws(7))
    ours = NativeTrainer(model, objective, x, mask, max_rows=256, seed=7)
    assert ours.score(x, mask, 5) == pytest.approx(theirs.score(x, mask, 5), rel=1e-5)
    theirs.step(rows, epoch, 1e-3)
    ours.step(rows, epoch, 1e-3)
    ours.write_back()
    gradients = {name: parameter.grad for name, parameter in reference.named_parameters()}
    largest = max(gradient.abs().max() for gradient in gradients.values())
    for key, tensor in reference.state_dict().items():
        if key in gradients:
            gradient = gradients[key]
            moved = gradient.abs() > 1e-5 * largest  # Adam makes a whole step of a zero's rounding
            torch.testing.assert_close(model.state_dict()[key][moved], tensor[moved], rtol=1e-4, atol=2e-6, msg=key)
        elif "running" in key:
            torch.testing.assert_close(model.state_dict()[key], tensor, rtol=1e-4, atol=1e-5, msg=key)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize(("layout", "size"), [(MIXED, 130), (NUMERICAL_12, 130), (NUMERICAL_12, 300)])
def test_threads_change_no_bit(layout, size, name):
    objective, epoch = OBJECTIVES[name]
    wide = NetworkConfig(collective_hidden=(200, 128), data_hidden=(256, 128), linear_tail=False, skip=True)
    model, x, mask = setting(layout, wide, 400)
    results = []
    for n_threads in (1, 2, 3):
        with torch_threads(n_threads):
            results.append(native_losses(model, x, mask, objective, epoch, size)[0])
    assert results[0] == results[1] == results[2]


def test_streams_are_the_same_at_every_level(monkeypatch):
    like = torch.empty(0)
    drawn = []
    for name in _native.cpu_levels():
        monkeypatch.setenv("VSAE_FAST_CPU", name)
        draws = StreamDraws(3)
        drawn.append((draws.uniform((7, 20), like), draws.normal((7, 20), like)))
    for uniform, normal in drawn[1:]:
        assert torch.equal(uniform, drawn[0][0])
        torch.testing.assert_close(normal, drawn[0][1], rtol=1e-6, atol=1e-6)


def test_streams_are_random():
    like = torch.empty(0, dtype=torch.float64)
    draws = StreamDraws(11)
    normal, uniform = draws.normal((4000, 64), like), draws.uniform((4000, 64), like)
    n = normal.numel()
    for moment, (value, spread) in enumerate([(0, 1), (1, 2), (0, 15), (3, 96)], start=1):
        error = tolerances.STANDARD_ERRORS * (spread / n) ** 0.5
        assert (normal**moment).mean().item() == pytest.approx(value, abs=error)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert torch.histc(uniform.float(), 64, 0, 1).std() < 2 * (n / 64) ** 0.5
    for numbers in (normal, uniform - 0.5):
        flat = numbers.flatten() / numbers.std()
        for lag in (1, 2, 15, 16, 17, 32, 64):
            assert (flat[lag:] * flat[:-lag]).mean().abs() < tolerances.STANDARD_ERRORS / n**0.5
    assert not torch.equal(StreamDraws(12).normal((9, 9), like), StreamDraws(11).normal((9, 9), like))


def test_backends_of_train():
    model, x, mask = setting(MIXED, ODD)
    losses = {}
    for backend in ("cpu", "reference", "auto"):
        trained = copy.deepcopy(model)
        plan = TrainingPlan(epochs=3, batch_size=64)
        generator = torch.Generator().manual_seed(0)
        losses[backend] = train(trained, x, mask, HideAndScore(), plan, generator, backend=backend)
    assert losses["auto"] == losses["cpu"]
    assert losses["cpu"].loss == pytest.approx(losses["reference"].loss, rel=1e-3)
    assert losses["cpu"].score == pytest.approx(losses["reference"].score, rel=1e-3)
    with pytest.raises(ValueError, match="use backend='reference'"):
        make_trainer(model.double(), x, mask, HideAndScore(), plan, generator, "cpu")


def test_works_after_fork():
    code = (
        "import os, torch\n"
        "from tests.test_native_training import AUTO, NUMERICAL_12, native_losses, setting\n"
        "from vsae_fast.objective import HideAndScore\n"
        "torch.set_num_threads(2)\n"
        "model, x, mask = setting(NUMERICAL_12, AUTO)\n"
        "before, trainer, _ = native_losses(model, x, mask, HideAndScore(), 0, 128)\n"
        "pid = os.fork()\n"
        "trainer.step(torch.arange(128), 0, 1e-3)\n"
        "same = native_losses(model, x, mask, HideAndScore(), 0, 128)[0] == before\n"
        "if pid == 0:\n"
        "    os._exit(0 if same else 1)\n"
        "assert same and os.waitpid(pid, 0)[1] == 0\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=os.environ)


def test_steps_together_are_those_one_by_one_and_a_copy_leaves_the_module_alone():
    model, x, mask = setting(MIXED, ODD)
    batches, rates = [torch.arange(20), torch.arange(20, 41), torch.arange(5, 30)], [1e-3, 2e-3, 5e-4]
    losses, states = [], []
    for together in (True, False):
        own = copy.deepcopy(model)
        trainer = NativeTrainer(own, HideAndScore(), x, mask, max_rows=64, seed=0)
        trainer.copy_state()
        steps = (
            [[batches, rates]] if together else [[[rows], [rate]] for rows, rate in zip(batches, rates, strict=True)]
        )
        losses.append([loss for part in steps for loss in trainer.steps(part[0], 0, part[1])])
        states.append(trainer.copy_state())
        assert_same_state(own.state_dict(), model.state_dict())
        trainer.write_back()
        assert_same_state(own.state_dict(), states[-1])
    assert losses[0] == losses[1]
    assert len(losses[0]) == 3
    assert_same_state(*states)


def assert_same_state(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_wrong_input_is_refused():
    model, x, mask = setting(MIXED, ODD)
    with pytest.raises(ValueError, match="float32"):
        NativeTrainer(model, HideAndScore(), x.double(), mask, max_rows=64, seed=0)
    trainer = NativeTrainer(model, HideAndScore(), x, mask, max_rows=64, seed=0)
    with pytest.raises(ValueError, match="more rows"):
        trainer.step(torch.arange(65), 0, 1e-3)


def test_every_model_has_an_objective_of_its_own():
    models = {build: build(MIXED, ODD) for build in (VSAE, VAE, CVAE)}
    for build, model in models.items():
        assert supports(model, EvidenceBound()) == (build is not VSAE)
        assert supports(model, TwoPhase()) == supports(model, HideAndScore()) == (build is VSAE)
    assert not supports(models[VAE].double(), EvidenceBound())
    assert supports(HIVAE(CATEGORICAL, ODD), EvidenceBound())
    assert not supports(HIVAE(CATEGORICAL, ODD, encoder="factorised"), EvidenceBound())
    assert not supports(HIVAE(MIXED, ODD), EvidenceBound())


@pytest.mark.parametrize(("build", "objective"), [(VSAE, TwoPhase()), (VAE, EvidenceBound()), (HIVAE, EvidenceBound())])
def test_derived_classes_keep_what_they_change(build, objective):
    class Changed(build):
        pass

    assert supports(build(CATEGORICAL, ODD), objective)
    assert not supports(Changed(CATEGORICAL, ODD), objective)
