"""Dense sweeps of the elementary functions against float64; the largest errors are stated in tests/tolerances.py."""

import math

import numpy as np
import pytest

from tests import tolerances
from vsae_fast import _native

TINY = np.finfo(np.float32).tiny


pytestmark = pytest.mark.usefixtures("level")


def apply(name, x):
    x = np.ascontiguousarray(x, dtype=np.float32)
    padded = np.concatenate([x, np.ones(-x.size % 16, dtype=np.float32)])
    out = np.full_like(padded, np.nan)
    _native.elementary(name, padded.ctypes.data, out.ctypes.data, padded.size)
    return out[: x.size]


def every_float(low, high, step=97):
    """Every ``step``-th float32 between two positive numbers."""
    first, last = np.array([low, high], dtype=np.float32).view(np.int32)
    return np.arange(first, last, step, dtype=np.int32).view(np.float32)


def sweep(limit):
    positive = every_float(1e-8, limit)
    return np.concatenate([-positive[::-1], [0.0], positive]).astype(np.float32)


SWEEPS = {
    "exp": (sweep(87.3), lambda x: np.exp(x)),
    "exp_negative": (-every_float(1e-8, 87.3), lambda x: np.exp(x)),
    "log": (every_float(1.0, 3e38), lambda x: np.log(x)),
    "sigmoid": (sweep(87.0), lambda x: 1 / (1 + np.exp(-x))),
}


@pytest.mark.parametrize("name", SWEEPS)
def test_largest_error(name):
    x, function = SWEEPS[name]
    exact = function(x.astype(np.float64))
    ulp = np.spacing(np.maximum(np.abs(exact), TINY).astype(np.float32)).astype(np.float64)
    error = np.abs(apply(name, x) - exact) / ulp
    assert error.max() <= tolerances.ELEMENTARY_ULP[name], (error.max(), x[error.argmax()])


def test_softplus():
    x = sweep(1e4)
    exact = np.logaddexp(0, x.astype(np.float64))
    error = np.abs(apply("softplus", x) - exact) / np.maximum(exact, 1)
    assert error.max() <= tolerances.SOFTPLUS_ABSOLUTE, (error.max(), x[error.argmax()])


def test_beyond_the_range():
    x = np.array([-math.inf, -1e38, -104, -88, 88.7, 1e38, math.inf, 1e-45, -1e-45, 0.0], dtype=np.float32)
    assert (apply("exp", x)[:4] == 0).all()
    assert np.isfinite(apply("exp", x)).all()
    assert (apply("exp", x)[4:7] > 1e38).all()
    assert (apply("exp", x)[7:] == 1).all()
    assert np.isfinite(apply("exp_negative", x[:4])).all()
    assert (apply("exp_negative", x[:4]) > 0).all()
    assert np.isfinite(apply("sigmoid", x)).all()
    assert (apply("sigmoid", x)[4:7] == 1).all()
    assert (apply("sigmoid", x)[:4] < 1e-37).all()
    assert (apply("softplus", x)[:4] < 1e-37).all()
    assert apply("softplus", x)[5] == np.float32(1e38)


def test_unknown_function():
    with pytest.raises(ValueError, match="unknown function 'sine'"):
        apply("sine", np.ones(16))
