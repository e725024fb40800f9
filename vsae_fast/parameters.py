"""Checks of what a caller passes to the estimator, before anything is computed."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch

from vsae_fast.noise import check_sampler
from vsae_fast.placement import check_place
from vsae_fast.presets import PRESETS
from vsae_fast.table.column import BoolArray
from vsae_fast.table.encode import HandleUnknown
from vsae_fast.table.schema import Schema, column_position

if TYPE_CHECKING:
    from vsae_fast.estimator import VSAEImputer

LEAST = {"n_samples": 1, "n_fills": 1, "n_models": 1, "epochs": 0, "batch_size": 2, "n_iter_no_change": 1}
POSITIVE = ("learning_rate", "max_time")
SWITCHES = ("bootstrap", "warm_start", "keep_empty_features", "add_indicator")


def check_parameters(imputer: VSAEImputer) -> torch.device:
    """Raise ValueError for the first parameter that is out of range; return the device that they name."""
    if imputer.preset not in PRESETS:
        raise ValueError(f"unknown preset {imputer.preset!r}; use one of {', '.join(map(repr, PRESETS))}")
    if imputer.handle_unknown not in get_args(HandleUnknown):
        known = " or ".join(map(repr, get_args(HandleUnknown)))
        raise ValueError(f"unknown handle_unknown {imputer.handle_unknown!r}; use {known}")
    device = check_place(imputer.device, imputer.backend, imputer.precision)
    if imputer.schema is not None and not isinstance(imputer.schema, Mapping):
        raise ValueError(f"schema must be a dict of column to kind, got {type(imputer.schema).__name__}")
    if imputer.sampler is not None:
        check_sampler(imputer.sampler)
    tolerance: Any = imputer.tolerance
    if tolerance is not None and (isinstance(tolerance, str) or not 0 <= tolerance < math.inf):
        raise ValueError(f"tolerance must be a number of at least 0, got {imputer.tolerance!r}")
    for name, least in LEAST.items():
        value = getattr(imputer, name)
        if (value is not None or name == "n_fills") and (
            isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least
        ):
            raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    for name in POSITIVE:
        value = getattr(imputer, name)
        if value is not None and (isinstance(value, str) or not 0 < value < math.inf):
            raise ValueError(f"{name} must be a positive number, got {value!r}")
    for name in SWITCHES:
        value = getattr(imputer, name)
        if not isinstance(value, (bool, np.bool_)):
            raise ValueError(f"{name} must be True or False, got {value!r}")
    if imputer.n_jobs is not None and (imputer.n_jobs == 0 or imputer.n_jobs < -1):
        raise ValueError(f"n_jobs must be a positive integer or -1, got {imputer.n_jobs!r}")
    if imputer.checkpoint_dir is not None and not isinstance(imputer.checkpoint_dir, (str, os.PathLike)):
        raise ValueError(f"checkpoint_dir must be the path of a folder, got {imputer.checkpoint_dir!r}")
    _check_callbacks(imputer.callbacks)
    return device


def n_threads(n_jobs: int | None) -> int:
    """Threads that ``n_jobs`` asks for: torch's setting where it is left out, all processors where it is -1."""
    if n_jobs is None:
        return torch.get_num_threads()
    return n_jobs if n_jobs > 0 else (os.cpu_count() or 1)


def self_masking_columns(schema: Schema, observed: BoolArray, names: Any) -> list[int]:
    """Positions of the columns that ``self_masking`` names.

    Raises
    ------
    ValueError
        No list of columns, a column that is not there, holds no numbers, or lacks no cell.
    """
    if names is None:
        return []
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise ValueError(f"self_masking must be a list of columns, got {names!r}; wrap a single one")
    positions = []
    for name in names:
        j = column_position([column.name for column in schema.columns], name)
        column = schema.columns[j]
        if column.role != "modelled" or column.attribute_kind != "numerical" or column.kind == "block":
            told = column.kind if column.role == "modelled" else column.role
            raise ValueError(
                f"self_masking names column {column.name!r}, which is {told}; it is for numbers, leave it out"
            )
        if observed[:, j].all():
            raise ValueError(f"self_masking names column {column.name!r}, which lacks no cell; leave it out")
        positions.append(j)
    return list(dict.fromkeys(positions))


def _check_callbacks(callbacks: Any) -> None:
    if callbacks is None:
        return
    if not isinstance(callbacks, (list, tuple)):
        raise ValueError(f"callbacks must be a list of callables, got {type(callbacks).__name__}; wrap a single one")
    for callback in callbacks:
        if not callable(callback):
            raise ValueError(f"callbacks must be a list of callables, but it holds a {type(callback).__name__}")
