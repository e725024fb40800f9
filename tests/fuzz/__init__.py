"""Hostile input: hypothesis fuzzing of everything that reads what others wrote, and of the kernels' entry points."""
