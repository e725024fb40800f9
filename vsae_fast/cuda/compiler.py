"""Compiles csrc/cuda for a device and a model at first use, keeps the machine code on disk, launches it.

Compilation is NVRTC's, through cuda.core (extra ``cuda``); no CUDA toolkit needs to be installed. Machine code is kept
under a key of everything that decides it; files carry a checksum, are written beside their place and renamed into it,
and are built anew where they are damaged. None of it is code that Python runs.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import lru_cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import torch

OLDEST = (6, 0)  # Pascal
OPTIONS = {"std": "c++17", "device_as_default_execution_space": True}
INSTALL = "install it with pip install 'vsae_fast[cuda]'"
CHECKSUM_BYTES = 32

Launch = Callable[[str, tuple[int, int], list["int | float | torch.Tensor | None"]], None]  # kernel, grid, arguments


def sources() -> Path:
    """Folder that holds ``core`` and ``cuda``."""
    try:
        return Path(str(resources.files("vsae_fast.csrc")))
    except ModuleNotFoundError:  # run from a clone that was not installed
        return Path(__file__).parents[2] / "csrc"


def cache_folder() -> Path:
    """Where machine code is kept: ``VSAE_FAST_CACHE``, or ``vsae_fast`` in the user's cache folder."""
    chosen = os.environ.get("VSAE_FAST_CACHE")
    base = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vsae_fast"
    return base / "cuda"


def check_capability(capability: tuple[int, int]) -> None:
    """Raise ValueError for devices older than Pascal."""
    if capability < OLDEST:
        raise ValueError(
            f"backend='cuda' needs a GPU of compute capability {OLDEST[0]}.{OLDEST[1]} (Pascal) or newer, this one has "
            f"{capability[0]}.{capability[1]}; use backend='reference' or device='cpu'"
        )


def check_device(device: torch.device) -> None:
    """Raise where kernels could not be compiled for a device: ImportError, or ValueError for one older than Pascal."""
    _cuda_core()
    check_capability(torch.cuda.get_device_capability(device))


def machine_code(kernel: str, prelude: str, architecture: str) -> bytes:
    """Cubin of one file of csrc/cuda with ``prelude`` in front, from disk or newly compiled.

    Parameters
    ----------
    kernel : str
        Name of the file without its suffix.
    prelude : str
        C++ text that holds the model's shapes.
    architecture : str
        ``"sm_61"`` and the like.

    Raises
    ------
    ImportError
        cuda.core or NVRTC is not installed.
    """
    key = hashlib.sha256()
    for part in (kernel, prelude, architecture, repr(sorted(OPTIONS.items())), _toolkit(), _source_text()):
        key.update(part.encode() + b"\0")
    file = cache_folder() / f"{kernel}-{architecture}-{key.hexdigest()[:32]}.cubin"
    kept = _read(file)
    if kept is not None:
        return kept
    code = compile_source(kernel, prelude, architecture)
    _write(file, code)
    return code


def compile_source(kernel: str, prelude: str, architecture: str, log: Any = None) -> bytes:
    """Compile without looking at the disk; the assembler's report goes to ``log``, a text file, where there is one."""
    core = _cuda_core()
    text = prelude + (sources() / "cuda" / f"{kernel}.cu").read_text()
    report = {} if log is None else {"ptxas_options": "-v"}
    options = core.ProgramOptions(arch=architecture, include_path=str(sources()), **OPTIONS, **report)
    program = core.Program(text, "c++", options)
    return bytes(program.compile("cubin", logs=log).code)


def _cuda_core() -> Any:
    try:
        import cuda.core
    except ImportError as error:
        raise ImportError(f"backend='cuda' needs cuda.core and NVRTC; {INSTALL}") from error
    return cuda.core


def _toolkit() -> str:
    """Versions of what compiles."""
    found = []
    for package in ("cuda-core", "cuda-bindings", "nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvrtc"):
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


@lru_cache(maxsize=1)
def _source_text() -> str:
    return "".join(path.read_text() for part in ("core", "cuda") for path in sorted((sources() / part).iterdir()))


def _read(file: Path) -> bytes | None:
    """Kept machine code; None where there is none, where it is damaged or where it is not this user's."""
    try:
        if hasattr(os, "getuid") and file.stat().st_uid != os.getuid():
            return None
        content = file.read_bytes()
    except OSError:
        return None
    checksum, code = content[:CHECKSUM_BYTES], content[CHECKSUM_BYTES:]
    return code if hashlib.sha256(code).digest() == checksum else None


def _write(file: Path, code: bytes) -> None:
    """Keep machine code where the folder can be written; a process that does the same at once writes the same."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=file.name)
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as temporary:
            temporary.write(hashlib.sha256(code).digest() + code)
        Path(name).replace(file)
    except OSError:
        Path(name).unlink(missing_ok=True)


class Module:
    """Kernels of one file, loaded on one device; :meth:`launch` puts them on torch's current stream.

    Parameters
    ----------
    kernel, prelude : str
        See :func:`machine_code`.
    device : torch.device
    threads : int
        Of a block.
    """

    def __init__(self, kernel: str, prelude: str, device: torch.device, threads: int) -> None:
        capability = torch.cuda.get_device_capability(device)
        check_capability(capability)
        self._core = _cuda_core()
        code = machine_code(kernel, prelude, f"sm_{capability[0]}{capability[1]}")
        self._device, self._threads = device, threads
        self._use_device()
        self._module = self._core.ObjectCode.from_cubin(code)

    def launch(self, name: str, grid: tuple[int, int], arguments: list[int | float | torch.Tensor | None]) -> None:
        """Launch ``name`` over a grid of blocks; integers are 32 bits wide, tensors pass their addresses."""
        self._use_device()
        stream = self._core.Stream.from_handle(torch.cuda.current_stream(self._device).cuda_stream)
        config = self._core.LaunchConfig(grid=grid, block=self._threads)
        values = [_argument(argument) for argument in arguments]
        self._core.launch(stream, config, self._module.get_kernel(name), *values)

    def _use_device(self) -> None:
        torch.cuda.init()
        self._core.Device(self._device.index or 0).set_current()


def _argument(value: int | float | torch.Tensor | None) -> Any:
    if value is None:
        return 0
    if isinstance(value, torch.Tensor):
        return value.data_ptr()
    return ctypes.c_float(value) if isinstance(value, float) else ctypes.c_int(value)


@lru_cache(maxsize=64)
def load(kernel: str, prelude: str, device: torch.device, threads: int) -> Module:
    """A :class:`Module`, kept for the next call with the same model and device."""
    return Module(kernel, prelude, device, threads)
