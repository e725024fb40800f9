"""Missing-data imputation with the Variational Selective Autoencoder (Gong et al., AISTATS 2021).

``vsae_fast.impute(X, mask)`` completes a table; :class:`VSAEImputer` is the scikit-learn estimator behind it and
:class:`VSAE` the torch module behind that. In every mask 1 means observed.

Names are imported when they are first used, so that ``import vsae_fast`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vsae_fast import datasets as datasets
    from vsae_fast import metrics as metrics
    from vsae_fast import missingness as missingness
    from vsae_fast import plot as plot
    from vsae_fast.estimator import VSAEImputer as VSAEImputer
    from vsae_fast.models.vsae import VSAE as VSAE
    from vsae_fast.one_call import describe_schema as describe_schema
    from vsae_fast.one_call import impute as impute
    from vsae_fast.pooling import pool as pool
    from vsae_fast.stream import impute_parquet as impute_parquet

__version__ = "0.1.0"

_HOMES = {
    "VSAE": "vsae_fast.models.vsae",
    "VSAEImputer": "vsae_fast.estimator",
    "describe_schema": "vsae_fast.one_call",
    "impute": "vsae_fast.one_call",
    "impute_parquet": "vsae_fast.stream",
    "pool": "vsae_fast.pooling",
}
_MODULES = ("datasets", "metrics", "missingness", "plot")

__all__ = [
    "impute",
    "impute_parquet",
    "describe_schema",
    "pool",
    "VSAEImputer",
    "VSAE",
    "datasets",
    "metrics",
    "missingness",
    "plot",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    elif name in _MODULES:
        value = import_module(f"vsae_fast.{name}")
    else:
        raise AttributeError(f"module 'vsae_fast' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
