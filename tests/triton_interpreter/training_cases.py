"""The ops of training against the float64 reference on the same noise, through torch's own autograd."""

import pytest

from tests import training_ops
from tests.random_models import CATEGORICAL, MIXED, NUMERICAL_12
from tests.test_grouped_mlp import networks as networks  # a fixture
from tests.test_sample_moments import WIDE_BLOCKS
from vsae_fast.objective import HideAndScore, TwoPhase
from vsae_fast.tensor_core import device


@pytest.fixture(scope="module")
def library():
    with training_ops.once_more_on_the_cpu("triton") as library:
        yield library


@pytest.fixture
def used(library, monkeypatch):
    """backend="triton" of the ops of training takes tensors on the CPU; gives the names of the kernels' files."""
    names = []

    def launcher(name, **constants):
        names.append(name)
        return device.launcher(name, **constants)

    for name in (*training_ops.DIFFERENTIABLE, "sample_moments"):
        monkeypatch.setattr(f"vsae_fast.tensor_core.{name}.launcher", launcher)
    training_ops.take_tensors_on_the_cpu(monkeypatch, "triton", library)
    return names


@pytest.mark.parametrize("noise_shape", [None, (0,), (1, 0), (17, 0)])
def test_fill_unobserved_is_the_reference(noise_shape, used, generator):
    training_ops.check_fill_unobserved("triton", MIXED, noise_shape, generator)
    assert used == ["fill_unobserved"] * 3


@pytest.mark.parametrize(("weight", "variance"), [("mask", False), ("other", True)])
@pytest.mark.parametrize(("n_rows", "n_samples"), [(1, 0), (7, 0), (2, 3)])
@pytest.mark.parametrize(
    "layout", [MIXED, CATEGORICAL, NUMERICAL_12, WIDE_BLOCKS], ids=["mixed", "levels", "numbers", "blocks"]
)
def test_elbo_is_as_good_as_eager(layout, n_rows, n_samples, weight, variance, used, generator):
    training_ops.check_elbo("triton", layout, n_rows, n_samples, generator, weight=weight, variance=variance)
    assert set(used) == {"elbo", "add_up"}


@pytest.mark.parametrize("at_once", [2, 4])
def test_elbo_takes_rows_in_parts(at_once, used, generator, monkeypatch):
    monkeypatch.setattr("vsae_fast.tensor_core.elbo.AT_ONCE", at_once)
    training_ops.check_elbo("triton", MIXED, 2, 3, generator)


@pytest.mark.parametrize("n_samples", [0, 3])
def test_elbo_never_reads_what_has_no_weight(n_samples, used, generator):
    training_ops.check_elbo_never_reads_what_has_no_weight("triton", n_samples, generator)


@pytest.mark.parametrize("n_rows", [1, 2, 30])
@pytest.mark.parametrize("training", [True, False])
def test_grouped_mlp_is_as_good_as_eager(networks, training, n_rows, used):
    training_ops.check_grouped_mlp("triton", networks, training, n_rows)
    assert set(used) == {"grouped_mlp", "add_up"}


@pytest.mark.parametrize(
    ("sizes", "tile"), [((1, 16, 16, 4), 32), ((7, 33, 2), 16), ((3, 2), 16), ((90, 70, 130, 3), 16)]
)
def test_grouped_mlp_of_other_sizes_and_tiles(sizes, tile, used, generator, monkeypatch):
    monkeypatch.setattr("vsae_fast.tensor_core.grouped_mlp.TILES", (tile,))
    training_ops.check_grouped_mlp("triton", training_ops.networks_of(sizes, 45, generator), n_rows=45)


@pytest.mark.parametrize("n_observed", [0, 1])
def test_grouped_mlp_with_too_few_observed_rows(networks, n_observed, used):
    training_ops.check_grouped_mlp("triton", training_ops.with_few_observed(networks, n_observed))


def test_grouped_mlp_never_reads_unobserved_inputs(networks, used):
    training_ops.check_grouped_mlp_never_reads_unobserved_inputs("triton", networks)


@pytest.mark.parametrize(("n_samples", "context"), [(1, True), (37, False), (150, True)])
@pytest.mark.parametrize(
    "layout", [MIXED, NUMERICAL_12, CATEGORICAL, WIDE_BLOCKS], ids=["mixed", "numbers", "levels", "wide-blocks"]
)
def test_sample_moments_are_as_good_as_eager(layout, n_samples, context, used):
    training_ops.check_sample_moments("triton", layout, n_samples, context)
    assert used == ["sample_moments"]


@pytest.mark.parametrize("objective", [HideAndScore(), TwoPhase(warmup_epochs=1)], ids=["auto", "paper"])
def test_steps_follow_the_float64_reference(objective, used, generator):
    training_ops.check_steps("triton", objective, generator, n_steps=2)
    expected = {"elbo", "add_up", "grouped_mlp", "fill_unobserved"}
    assert set(used) == expected | ({"sample_moments"} if isinstance(objective, TwoPhase) else set())
