"""Torch's number of threads, which is that of the kernels of training too, for a while."""

from contextlib import contextmanager

import torch


@contextmanager
def torch_threads(n_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
