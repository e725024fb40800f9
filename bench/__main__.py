"""Run the benchmarks and keep their JSON in bench/results/.

python -m bench [--quick] [--only NAME,...] [--threads 2] [--data FOLDER] [--results FOLDER]

Each suite runs in a process of its own through pytest-benchmark. The suite with AVX2 only forbids wider instructions to
torch and its libraries as well.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from vsae_fast import _native

HERE = Path(__file__).parent
AVX2_ONLY = {
    "VSAE_FAST_CPU": "avx2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
SUITES: dict[str, tuple[str, dict[str, str]]] = {
    "importance_impute": ("importance_impute.py", {}),
    "importance_impute_avx2": ("importance_impute.py", AVX2_ONLY),
    "propose": ("propose.py", {}),
    "gaussian_mixture": ("gaussian_mixture.py", {}),
    "latent_classes": ("latent_classes.py", {}),
    "training_step": ("training_step.py", {}),
    "baseline_step": ("baseline_step.py", {}),
    "sampling": ("sampling.py", {}),
    "scaling": ("scaling.py", {}),
}

NEED_DATA = {"sampling"}


def main() -> None:
    """Run the suites one after the other; exit with 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="few short rounds: to see that they run")
    parser.add_argument("--only", help=f"suites, separated by commas, of {', '.join(SUITES)}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("VSAE_FAST_DATA"),
        help="folder of the UCI sets (environment variable VSAE_FAST_DATA)",
    )
    parser.add_argument("--results", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else list(SUITES)
    unknown = set(names) - set(SUITES)
    if unknown:
        parser.error(f"unknown suite {sorted(unknown)[0]!r}; use {', '.join(SUITES)}")
    arguments.results.mkdir(parents=True, exist_ok=True)
    failed = False
    for name in names:
        file, variables = SUITES[name]
        if variables and "avx2" not in _native.cpu_levels():
            print(f"{name}: this machine has no AVX2; left out")
            continue
        if name in NEED_DATA and arguments.data is None:
            print(f"{name}: needs the UCI sets, --data FOLDER; left out")
            continue
        command = [
            sys.executable, "-m", "pytest", str(HERE / file), "-s", "--timeout=1800", "--durations=0",
            f"--benchmark-json={arguments.results / name}.json", "--benchmark-columns=median,iqr,rounds",
            f"--threads={arguments.threads}",
        ]  # fmt: skip
        command += ["--quick"] if arguments.quick else []
        command += [f"--data={Path(arguments.data).resolve()}"] if arguments.data else []
        print(f"== {name}", flush=True)
        failed |= subprocess.run(command, check=False, cwd=HERE.parent, env={**os.environ, **variables}).returncode != 0
    sys.exit(failed)


if __name__ == "__main__":
    main()
