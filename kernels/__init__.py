"""Triton kernels for tensor cores, installed as ``vsae_fast.kernels``; they import triton, nothing of this package."""
