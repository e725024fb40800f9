"""What the CUDA kernel could reach on two GPUs at most, from its machine code; a projection, not a measurement.

python -m bench.projection [--output FILE]

Machine code of importance_impute for sm_61 and sm_60 is searched for the inner loops of its products, with nothing in
them but multiply-adds, loads and bookkeeping. The share of multiply-adds among a loop's instructions, times the
published rate of the device, is the rate of that product where every instruction is issued without a wait. Likelihood
terms, barriers, tails and memory are left out: the device will be slower than this, by how much only a device can tell.
"""

from __future__ import annotations

import argparse
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bench import environment
from bench.imputing import CASES, make_model
from vsae_fast.cuda import compiler
from vsae_fast.cuda.dense import MOST_OUTPUTS, THREADS
from vsae_fast.cuda.importance_impute import CudaModel

RESULTS = Path(__file__).parent / "results" / "projection.json"
N_SAMPLES = 1000
OBSERVED = 0.5  # share of the numbers that are scored for every sample
SAMPLES_PER_THREAD, UNROLLED = 4, 4  # of csrc/cuda/dense.h


class Gpu(NamedTuple):
    """Published figures: float32 lanes and boost clock."""

    name: str
    architecture: str
    lanes: int
    ghz: float


GPUS = (Gpu("GTX 1080", "sm_61", 20 * 128, 1.733), Gpu("Tesla P100 (PCIe)", "sm_60", 56 * 64, 1.303))


def text_section(cubin: bytes, kernel: str) -> bytes:
    """Instructions of a kernel: its section of the ELF file."""
    (offset,) = struct.unpack_from("<Q", cubin, 0x28)
    n_sections, names_at = struct.unpack_from("<HH", cubin, 0x3C)
    headers = [struct.unpack_from("<IIQQQQIIQQ", cubin, offset + 64 * i) for i in range(n_sections)]
    names = headers[names_at][4]
    for header in headers:
        start = names + header[0]
        if cubin[start : cubin.index(b"\0", start)] == f".text.{kernel}".encode():
            return cubin[header[4] : header[4] + header[5]]
    raise ValueError(f"the machine code has no kernel {kernel}")


def instructions(text: bytes) -> Iterator[tuple[int, int]]:
    """Address and word of each; Maxwell and Pascal put a word of scheduling in front of every three."""
    for address in range(0, len(text), 8):
        if address % 32:
            yield address, struct.unpack_from("<Q", text, address)[0]


def is_multiply_add(word: int) -> bool:
    """FFMA with register, constant or immediate operands."""
    return (word >> 52) & 0xFF8 in (0x598, 0x498, 0x518, 0x328)


def product_loops(text: bytes) -> dict[int, float]:
    """Share of multiply-adds in the innermost product loops, by outputs that a thread holds; means over the loops."""
    code = list(instructions(text))
    loops = []
    for address, word in code:
        if word >> 52 == 0xE24:  # BRA, its offset relative to the next instruction
            distance = (word >> 20) & 0xFFFFFF
            target = address + 8 + distance - ((1 << 24) if distance >> 23 else 0)
            if target <= address:
                loops.append((target, address))
    shares: dict[int, list[float]] = {}
    for start, end in loops:
        if any((start, end) != other and start <= other[0] and other[1] <= end for other in loops):
            continue
        body = [word for address, word in code if start <= address <= end]
        found = sum(map(is_multiply_add, body))
        a_row = SAMPLES_PER_THREAD * UNROLLED
        if found and found % a_row == 0 and found / len(body) > 0.4:
            shares.setdefault(found // a_row, []).append(found / len(body))
    return {rows: sum(values) / len(values) for rows, values in shares.items()}


def rows_per_thread(tile: int, n_out: int) -> int:
    """Outputs that a thread holds, as csrc/cuda/dense.h decides."""
    groups, rows = THREADS * SAMPLES_PER_THREAD // tile, 1
    while rows * groups < n_out and rows * groups < MOST_OUTPUTS:
        rows *= 2
    return rows


def project(case: str, gpu: Gpu) -> dict[str, Any]:
    """Rows per second at most."""
    model = CudaModel(make_model(CASES[case], torch.Generator().manual_seed(0)).folded(torch.float32))
    cubin = compiler.compile_source("importance_impute", model.prelude(), gpu.architecture)
    shares = product_loops(text_section(cubin, "importance_impute"))
    decoders = model.decoders
    shapes = [tuple(la.weight.shape) for la in (*decoders.mask_layers, *decoders.data_layers)]
    kinds = decoders.layout.kinds
    n_numbers = round(OBSERVED * model.scoring.starts[-1])
    n_levels = sum(w for w, k in zip(decoders.layout.widths, kinds, strict=True) if k == "categorical")
    hidden = decoders.output.weight.shape[1]
    shapes += [(n, hidden) for n in (n_numbers, n_levels) if n]
    useful = executed = slots = 0.0
    for n_out, n_in in shapes:
        rows = rows_per_thread(model.tile, n_out)
        at_once = rows * THREADS * SAMPLES_PER_THREAD // model.tile
        padded = n_in * at_once * -(-n_out // at_once)
        useful += n_in * n_out
        executed += padded
        slots += padded / shares[rows]
    return {
        "case": case,
        "gpu": gpu.name,
        "tile": model.tile,
        "multiply_adds_per_sample": useful,
        "executed": executed,
        "issue_slots": slots,
        "rows_per_second": gpu.lanes * gpu.ghz * 1e9 / slots / N_SAMPLES,
        "share_of_peak": useful / slots,
    }


def main() -> None:
    """Project, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=RESULTS)
    output = parser.parse_args().output
    cases = [project(name, gpu) for name in CASES for gpu in GPUS]
    for case in cases:
        print(f"{case['case']:<36}{case['gpu']:<20}{case['rows_per_second']:>12,.0f} rows/s at most")
    output.parent.mkdir(parents=True, exist_ok=True)
    result = {"environment": environment.describe(torch.get_num_threads()), "n_samples": N_SAMPLES, "cases": cases}
    output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
