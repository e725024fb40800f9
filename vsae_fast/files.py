"""Model files: one safetensors file, the schema and settings as JSON in its header. Loading runs no code."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

import vsae_fast
from vsae_fast import noise
from vsae_fast.calibration import SpreadMoments
from vsae_fast.class_member import ClassMember
from vsae_fast.closed_form_member import ClosedFormMember
from vsae_fast.gaussian_member import GaussianMember
from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.vsae import VSAE
from vsae_fast.self_masking import SelfMasking
from vsae_fast.table.schema import ColumnSchema, Schema
from vsae_fast.training import History
from vsae_fast.whole_file import whole_file

if TYPE_CHECKING:
    from vsae_fast.estimator import VSAEImputer

# 2: a checksum of the networks; weight decay and end of each training. 3: blocks of columns. 4: self-masking columns.
# 5: skewness and tailweight of what a self-masking column's prediction leaves. 6: columns of times. 7: linear members.
# 8: of scores. 9: members of latent classes. 10: normal distributions of several components.
FORMAT_VERSION = 10
# Names in files; those of one normal distribution were called linear.
CLOSED_FORM: dict[str, type[ClosedFormMember]] = {"linear": GaussianMember, "classes": ClassMember}
KEY = "vsae_fast"

_RuntimePath = str | os.PathLike[str]


def save(imputer: VSAEImputer, path: _RuntimePath, *, overwrite: bool = False) -> None:
    """Write a fitted imputer.

    The file appears whole or not at all: it is written under a temporary name and renamed.

    Parameters
    ----------
    imputer : VSAEImputer
    path : path
        ``.safetensors`` by convention.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    FileExistsError
        The file exists and ``overwrite`` is False.
    ValueError
        A column name or level that JSON cannot hold.
    """
    target = Path(path)
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists; pass overwrite=True to replace it")
    params = imputer.get_params(deep=False)
    params["random_state"] = None  # seed_ holds what it decided
    for name in ("schema", "min_value", "max_value"):
        params[name] = None  # the fitted schema holds what they decided
    params["self_masking"] = None  # the fitted terms hold it
    params["callbacks"] = None  # loading runs no code
    params["checkpoint_dir"] = None  # of this training and this machine
    header: dict[str, Any] = {
        "version": FORMAT_VERSION,
        "package": vsae_fast.__version__,
        "noise": noise.SCHEME,
        "params": params,
        "seed": imputer.seed_,
        "had_missing": imputer.had_missing_,
        "n_features": imputer.n_features_in_,
        "feature_names": list(getattr(imputer, "feature_names_in_", [])) or None,
        "schema": [asdict(column) for column in imputer.schema_.columns],
        "history": [asdict(history) for history in imputer.history_],
    }
    state: dict[str, torch.Tensor] = {}
    if imputer.models_:
        header["network"] = asdict(imputer.models_[0].config)
        header["n_models"] = len(imputer.models_)
        header["n_samples"] = imputer.default_n_samples_
        header["visible_weight"] = imputer.visible_weight_
        header["sampler"] = imputer.default_sampler_
        header["tolerance"] = imputer.default_tolerance_
        header["self_masking"] = {str(attribute): list(term) for attribute, term in imputer.self_masking_.items()}
        state = {
            f"{member}.{name}": tensor.cpu().contiguous()
            for member, model in enumerate(imputer.models_)
            for name, tensor in model.state_dict().items()
        }
        member = imputer.closed_form_
        for name, kind in CLOSED_FORM.items():
            if isinstance(member, kind):
                header[f"{name}_shares"] = [member.number_share, member.level_share]
                state |= {f"{name}.{array}": torch.from_numpy(values) for array, values in member.arrays.items()}
    header["checksum"] = _checksum(state)
    try:
        text = json.dumps(header, default=_plain)
    except TypeError as error:
        raise ValueError(
            f"the schema cannot be saved: {error}; use column names and levels of text or numbers"
        ) from error
    with whole_file(target) as temporary:
        temporary.write_bytes(to_bytes(state, metadata={KEY: text}))


def load(path: _RuntimePath) -> VSAEImputer:
    """Read an imputer that :func:`save` wrote.

    Parameters
    ----------
    path : path

    Returns
    -------
    VSAEImputer

    Raises
    ------
    FileNotFoundError
    ValueError
        Not a model file, damaged, altered, or written by a newer version.
    """
    from vsae_fast.estimator import VSAEImputer

    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"there is no file {source}")
    try:
        with safe_open(source, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        raise ValueError(f"{source} is not a vsae_fast model file, or it is damaged ({error})") from error
    if KEY not in metadata:
        raise ValueError(f"{source} is a safetensors file, but not one that vsae_fast wrote")
    try:
        header = json.loads(metadata[KEY])
        version = int(header["version"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the header of {source} is damaged") from error
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{source} has format {version}, but vsae_fast {vsae_fast.__version__} reads up to {FORMAT_VERSION}; "
            "upgrade vsae_fast"
        )
    if version > 1 and header.get("checksum") != _checksum(state):
        raise ValueError(f"{source} was altered after it was written: its networks do not match their checksum")
    try:
        return _restore(VSAEImputer, header, state)
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise ValueError(f"{source} is damaged: {str(error).splitlines()[0]}") from error


def _checksum(state: dict[str, torch.Tensor]) -> str:
    """SHA-256 of all tensors: safetensors itself would not notice a changed byte."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _restore(kind: type[VSAEImputer], header: dict[str, Any], state: dict[str, torch.Tensor]) -> VSAEImputer:
    imputer = kind(**header["params"])
    imputer.schema_ = Schema(
        tuple(
            ColumnSchema(**column | {key: tuple(column.get(key, ())) for key in ("levels", "shape", "centre")})
            for column in header["schema"]
        )
    )
    imputer.seed_ = int(header["seed"])
    imputer.had_missing_ = list(header["had_missing"])
    imputer.n_features_in_ = int(header["n_features"])
    if header["feature_names"] is not None:
        imputer.feature_names_in_ = np.asarray(header["feature_names"], dtype=object)
    imputer.history_ = [_history(history) for history in header["history"]]
    imputer.n_iter_ = max((len(history.epoch) for history in imputer.history_), default=0)
    imputer.models_ = []
    terms = header.get("self_masking", {})  # not in files of before there were any, of five numbers up to format 4
    imputer.self_masking_ = {int(attribute): SelfMasking(*map(float, term)) for attribute, term in terms.items()}
    imputer.closed_form_ = None
    if "network" in header:
        if header["noise"] not in noise.SCHEMES:
            raise ValueError(f"unknown noise scheme {header['noise']!r}")
        for member in range(int(header["n_models"])):
            with torch.random.fork_rng(devices=[]):  # building a network draws from the global generator
                model = VSAE(imputer.schema_.layout(), NetworkConfig(**header["network"]))
            prefix = f"{member}."
            own = {name[len(prefix) :]: tensor for name, tensor in state.items() if name.startswith(prefix)}
            model.load_state_dict(own)
            imputer.models_.append(model.eval())
        for name, form in CLOSED_FORM.items():
            shares, prefix = header.get(f"{name}_shares"), f"{name}."
            if shares is not None:
                arrays = {key.removeprefix(prefix): t.numpy() for key, t in state.items() if key.startswith(prefix)}
                imputer.closed_form_ = form.of_arrays(imputer.schema_.layout(), arrays, shares)
        imputer.default_n_samples_ = int(header["n_samples"])
        imputer.visible_weight_ = float(header["visible_weight"])
        imputer.default_sampler_ = str(header.get("sampler", "iid"))  # files of before there was a choice
        imputer.default_tolerance_ = float(header.get("tolerance", 0.0))
    if bool(imputer.models_) != bool(imputer.schema_.modelled):
        raise ValueError(f"{len(imputer.models_)} networks for {len(imputer.schema_.modelled)} columns to be modelled")
    return imputer


def _history(plain: dict[str, Any]) -> History:
    spread = plain.get("spread")
    return History(**{**plain, "spread": None if spread is None else SpreadMoments(*spread)})


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} is a {type(value).__name__}")
