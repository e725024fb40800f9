"""Launches of the Triton kernels of ``kernels/``: packed models, shapes, and the devices that can run them."""
