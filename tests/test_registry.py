import threading

import pytest
import torch

from tests.random_models import MIXED, random_rows
from vsae_fast import _native
from vsae_fast.ops.fill_unobserved import fill_unobserved
from vsae_fast.ops.registry import Addresses, prefer, resolve


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
