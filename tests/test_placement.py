"""Which kernels run on a device: what was named, or what has been seen to be right there."""

import logging
import re

import pytest
import torch

from tests.test_cuda import needs_gpu
from vsae_fast import VSAEImputer, kernel_check, placement
from vsae_fast.ops.importance_impute import OP as IMPORTANCE_IMPUTE
from vsae_fast.ops.sample_moments import OP as SAMPLE_MOMENTS
from vsae_fast.placement import check_place, choose_backend

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
TABLE = [[1.0, 2.0], [3.0, float("nan")], [2.0, 5.0]]


@pytest.fixture(autouse=True)
def forget():
    yield
    kernel_check.difference.cache_clear()
    placement._float32_kernels.cache_clear()


@pytest.fixture
def gpu(monkeypatch):
    """As if there were one; gives what its kernels have been asked."""
    asked = []
    monkeypatch.setattr(placement, "resolve_device", lambda name: CPU if name in ("auto", "cpu") else GPU)
    monkeypatch.setattr("vsae_fast.cuda.compiler.check_device", lambda device: None)
    monkeypatch.setattr("vsae_fast.tensor_core.device.check_device", lambda device: asked.append("tensor cores"))
    monkeypatch.setattr(kernel_check, "difference", lambda *place: asked.append(place))
    return asked


def test_kernels_of_the_cpu_are_right_there():
    assert kernel_check.difference("auto", CPU) is None


@pytest.mark.parametrize(
    ("op", "wrong", "told"),
    [
        (
            IMPORTANCE_IMPUTE,
            lambda out: (out[0] * 1.01, *out[1:]),
            r"its imputed values are up to 0\.\d+ off PyTorch's",
        ),
        (SAMPLE_MOMENTS, lambda out: (out[0] + 0.1, *out[1:]), r"its losses of training are not PyTorch's \(\[\d"),
        (SAMPLE_MOMENTS, lambda out: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
    ids=["imputation", "training", "error"],
)
def test_wrong_kernels_are_told(op, wrong, told, monkeypatch):
    right = op.dispatched
    monkeypatch.setattr(op, "dispatched", lambda *arguments: wrong(right(*arguments)))
    reason = kernel_check.difference("auto", CPU)
    assert reason is not None
    assert re.match(told, reason), reason


def test_the_check_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    kernel_check.difference("auto", CPU)
    assert torch.equal(torch.rand(3), expected)


def test_named_backends_are_taken(gpu):
    for backend in ("cpu", "reference", "auto"):
        assert choose_backend(CPU, backend, None) == backend
    for backend in ("cuda", "triton", "reference"):
        assert choose_backend(GPU, backend, None) == backend
    assert gpu == []


@pytest.mark.parametrize("precision", [None, "float32"])
def test_cuda_kernels_run_where_they_are_right(gpu, precision):
    assert check_place("cuda", "auto", precision) == GPU
    assert choose_backend(GPU, "auto", precision) == "cuda"
    assert gpu == [("cuda", GPU)]


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_a_precision_of_tensor_cores_names_their_kernels(gpu, precision):
    assert check_place("cuda", "auto", precision) == GPU
    assert choose_backend(GPU, "auto", precision) == "triton"
    assert gpu == ["tensor cores"]
    with pytest.raises(ValueError, match=f"backend='auto' does not multiply in {precision}; use backend='triton'"):
        check_place("cpu", "auto", precision)


def failing(device):
    raise ImportError("backend='cuda' needs cuda.core and NVRTC; install it with pip install 'vsae_fast[cuda]'")


@pytest.mark.parametrize(
    ("target", "replacement", "reason"),
    [
        ("vsae_fast.cuda.compiler.check_device", failing, "install it with pip install"),
        ("vsae_fast.kernel_check.difference", lambda *place: "its losses of training are not PyTorch's", "losses"),
    ],
)
def test_plain_pytorch_runs_elsewhere_and_a_warning_says_why(gpu, target, replacement, reason, monkeypatch, caplog):
    monkeypatch.setattr(target, replacement)
    with caplog.at_level(logging.WARNING, logger="vsae_fast"):
        assert choose_backend(GPU, "auto", None) == "reference"
        assert choose_backend(GPU, "auto", "float32") == "reference"
    (record,) = caplog.records
    assert record.message.startswith("plain PyTorch runs on cuda:0, not our kernels: ")
    assert reason in record.message


def test_the_estimator_trains_and_imputes_with_what_was_chosen(monkeypatch):
    chosen = []

    def choose(*place):
        chosen.append(place)
        return "reference"

    for module in ("fitting", "fitted_imputer"):  # training and imputation
        monkeypatch.setattr(f"vsae_fast.{module}.choose_backend", choose)
    plain = VSAEImputer(backend="reference", epochs=1, n_models=1, random_state=0).fit_transform(TABLE)
    taken = VSAEImputer(epochs=1, n_models=1, random_state=0).fit_transform(TABLE)
    assert (taken == plain).all()
    assert set(chosen) == {(CPU, "reference", None), (CPU, "auto", None)}


@needs_gpu
@pytest.mark.gpu
def test_kernels_are_chosen_on_the_gpu():
    assert kernel_check.difference("cuda", torch.device("cuda")) is None
    assert choose_backend(torch.device("cuda"), "auto", None) == "cuda"
