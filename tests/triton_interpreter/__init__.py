"""Tests of the Triton kernels under Triton's interpreter; tests/test_triton.py starts them in their own process."""
