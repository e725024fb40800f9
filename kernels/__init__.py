"""Triton kernels for tensor cores, installed as ``vsae_fast.kernels``; they import triton and nothing of this package."""
