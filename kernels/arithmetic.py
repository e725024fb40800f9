"""What several kernels compute with."""

import triton
import triton.language as tl


@triton.jit
def product(a, b, BFLOAT16: tl.constexpr = False):
    """``a b`` on tensor cores in tf32 or bfloat16, summed in float32."""
    if BFLOAT16:
        return tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16))
    return tl.dot(a, b, input_precision="tf32")


@triton.jit
def leaky(h, SLOPE: tl.constexpr):
    """LeakyReLU."""
    return tl.where(h > 0, h, SLOPE * h)


@triton.jit
def softplus(a):
    """``log(1 + exp(a))`` without overflow."""
    return tl.maximum(a, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(a)))
