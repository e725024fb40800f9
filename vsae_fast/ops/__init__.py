"""The ops, one file each: shape checks, a plain-PyTorch reference, and the table of faster backends.

A new op goes into a file of its name here, in ``csrc/cpu``, ``csrc/cuda`` and ``kernels`` as far as it has kernels
there, and into ``tests`` and ``bench``.
"""

from vsae_fast.ops.elbo import elbo
from vsae_fast.ops.fill_unobserved import fill_unobserved
from vsae_fast.ops.grouped_mlp import grouped_mlp
from vsae_fast.ops.importance_impute import importance_impute
from vsae_fast.ops.propose import propose
from vsae_fast.ops.sample_moments import sample_moments

__all__ = ["elbo", "fill_unobserved", "grouped_mlp", "importance_impute", "propose", "sample_moments"]
