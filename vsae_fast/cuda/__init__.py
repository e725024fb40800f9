"""CUDA kernels of csrc/cuda: compiled at first use for a device and a model, kept on disk, put on torch's stream."""
