"""Triton kernels for tensor cores, installed as ``vsae_fast.kernels``; they import triton and nothing of this package.

No op has a Triton kernel yet: on a GPU the ops run their PyTorch references.
"""
