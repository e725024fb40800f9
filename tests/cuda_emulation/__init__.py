"""CUDA kernels of csrc/cuda compiled as host C++ and run by fibers, to test their arithmetic without a GPU."""

from __future__ import annotations

import ctypes
import hashlib
import re
import subprocess
from functools import cache
from pathlib import Path

import torch

from vsae_fast import _native

# A GPU multiplies and adds with one rounding; so does the host, where it can.
FUSED = ["-mfma"] if "avx2" in _native.cpu_levels() else []
COMPILE = ("g++", "-std=c++20", "-O2", "-ffp-contract=fast", *FUSED, "-w", "-fPIC")
HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"
SIGNATURE = re.compile(r'extern "C" __global__ void\s*(?:__launch_bounds__\([^)]*\))?\s*(\w+)\(([^)]*)\)', re.DOTALL)
C_TYPES = {"int": ctypes.c_int, "float": ctypes.c_float, "unsigned": ctypes.c_uint, "long long": ctypes.c_longlong}


@cache
def precompiled_header(folder: Path) -> Path:
    """Folder with emulation.h precompiled: reading the standard headers is two fifths of a kernel's compilation."""
    subprocess.run(
        [*COMPILE, "-x", "c++-header", str(HERE / "emulation.h"), "-o", str(folder / "emulation.h.gch")], check=True
    )
    return folder


def compile_kernels(prelude: str, source: str, folder: Path):
    """Build one file of csrc/cuda for the host; returns a launch function as vsae_fast.cuda expects it."""
    text = (CSRC / "cuda" / source).read_text()
    kernels = dict(SIGNATURE.findall(text))
    drivers = []
    for name, parameters in kernels.items():
        names = ", ".join(re.findall(r"(\w+)\s*(?:,|$)", parameters))
        drivers.append(
            f'extern "C" void emulate_{name}(unsigned blocks_x, unsigned blocks_y, {parameters}) {{\n'
            f"    emulation::launch(blocks_x, blocks_y, vsae::kThreads, [&] {{ {name}({names}); }});\n}}\n"
        )
    program = f'#include "emulation.h"\n{prelude}\n#include "cuda/{source}"\n' + "".join(drivers)
    sources = "".join(path.read_text() for path in sorted(CSRC.glob("c[ou]*/*.*")))
    library = folder / f"{hashlib.sha256((program + sources).encode()).hexdigest()[:16]}.so"
    if not library.exists():
        file = library.with_suffix(".cpp")
        file.write_text(program)
        subprocess.run(
            [
                *COMPILE,
                "-shared",
                f"-I{precompiled_header(folder)}",
                f"-I{HERE}",
                f"-I{CSRC}",
                str(file),
                "-o",
                str(library),
            ],
            check=True,
        )
    loaded = ctypes.CDLL(str(library))

    def launch(name, grid, arguments):
        types = []
        for parameter in kernels[name].split(","):
            kind = parameter.replace("const", "").rsplit(maxsplit=1)[0].strip()
            types.append(ctypes.c_void_p if "*" in parameter else C_TYPES[kind])
        assert len(types) == len(arguments), (name, len(types), len(arguments))
        values = [a.data_ptr() if isinstance(a, torch.Tensor) else a for a in arguments]
        function = getattr(loaded, f"emulate_{name}")
        function.argtypes = [ctypes.c_uint, ctypes.c_uint, *types]
        function(*grid, *values)

    return launch
