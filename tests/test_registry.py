import threading
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch

from tests.random_models import MIXED, random_rows
from vsae_fast import _native
from vsae_fast.ops.fill_unobserved import fill_unobserved
from vsae_fast.ops.registry import GPU_BACKENDS, Addresses, gpu_kernel, prefer, remembering_backend, resolve


@pytest.fixture
def calls(monkeypatch):
    """Counts calls of the C++ kernel."""
    count = []
    kernel = _native.fill_unobserved
    monkeypatch.setattr(_native, "fill_unobserved", lambda *a: (count.append(1), kernel(*a)))
    return count


def test_auto_takes_the_kernel_for_float32_and_the_reference_for_the_rest(calls, generator):
    x, mask = random_rows(MIXED, 3, generator)
    fill_unobserved(x, mask, None, MIXED)
    assert not calls
    fill_unobserved(x.float(), mask.float(), None, MIXED)
    assert len(calls) == 1


def test_prefer_changes_auto_alone_and_for_its_thread_alone(calls, generator):
    x, mask = (t.float() for t in random_rows(MIXED, 3, generator))
    with prefer("reference"):
        fill_unobserved(x, mask, None, MIXED)
        assert not calls
        fill_unobserved(x, mask, None, MIXED, backend="cpu")
        assert len(calls) == 1
        other = threading.Thread(target=fill_unobserved, args=(x, mask, None, MIXED))
        other.start()
        other.join()
        assert len(calls) == 2
    fill_unobserved(x, mask, None, MIXED)
    assert len(calls) == 3
    with pytest.raises(ValueError, match="unknown backend 'fast'"), prefer("fast"):
        pass


def test_a_failure_inside_prefer_ends_it(calls, generator):
    x, mask = (t.float() for t in random_rows(MIXED, 3, generator))
    with pytest.raises(KeyError), prefer("reference"):
        raise KeyError
    fill_unobserved(x, mask, None, MIXED)
    assert len(calls) == 1


def test_addresses_are_of_contiguous_float32():
    address = Addresses()
    assert address(None) == 0
    tensor = torch.randn(4, 3)
    assert address(tensor) == tensor.data_ptr()
    assert address(tensor.t()) != tensor.data_ptr()
    with pytest.raises(ValueError, match=r"takes torch\.float32 tensors on the CPU"):
        address(tensor.double())


@pytest.mark.parametrize(
    ("preferred", "on_cpu", "on_gpu", "double"),
    [
        ("auto", "cpu", "reference", "reference"),
        ("cpu", "cpu", "reference", "reference"),
        ("reference", "reference", "reference", "reference"),
        ("cuda", "reference", "cuda", "reference"),
        ("triton", "reference", "triton", "reference"),
    ],
)
def test_what_auto_means_where_a_backend_is_preferred(preferred, on_cpu, on_gpu, double):
    with prefer(preferred):
        assert resolve("auto", torch.float32, torch.device("cpu")) == on_cpu
        assert resolve("auto", torch.float32, torch.device("cuda")) == on_gpu
        assert resolve("auto", torch.float64, torch.device("cuda")) == double
        assert resolve("cpu", torch.float64, torch.device("cuda")) == "cpu"  # which Op.select refuses


@pytest.mark.parametrize(("preferred", "expected"), [("auto", "cuda"), ("cuda", "cuda"), ("triton", "triton")])
def test_a_device_kernel_is_the_one_that_is_preferred(preferred, expected):
    kernel = gpu_kernel(lambda: "cuda", lambda: "triton")
    with prefer(preferred):
        assert kernel() == expected


def test_the_way_back_prefers_what_the_way_forward_preferred():
    kernel = gpu_kernel(lambda: "cuda", lambda: "triton")
    remember, backward = remembering_backend(lambda ctx, inputs, output: None, lambda ctx, gradient: kernel())
    ctx = SimpleNamespace()
    with prefer("triton"):
        remember(ctx, (), None)
    found = []
    other = threading.Thread(target=lambda: found.append(backward(ctx, 1.0)))  # as autograd does
    other.start()
    other.join()
    assert found == ["triton"]
    assert kernel() == "cuda"


def test_every_op_has_kernels_for_both_languages_of_a_gpu():
    for name in ("elbo", "fill_unobserved", "grouped_mlp", "importance_impute", "propose", "sample_moments"):
        op = import_module(f"vsae_fast.ops.{name}").OP
        assert set(op.on_gpu) == set(GPU_BACKENDS)
        assert all(op.on_gpu.values()), name
