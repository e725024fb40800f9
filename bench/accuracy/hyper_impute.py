"""HyperImpute (Jarrett et al. 2022) in a Python of its own, with older versions of pandas and scikit-learn than ours.

python -m venv FOLDER
FOLDER/bin/pip install "pandas<3" "scikit-learn<1.8" torch catboost optuna loguru==0.6.0 xgboost-cpu lightgbm redis \
    cloudpickle geomloss pydantic
FOLDER/bin/pip install --no-deps hyperimpute==0.1.17 miracle-imputation

The environment variable HYPERIMPUTE_PYTHON names FOLDER/bin/python. With pandas 3 it runs, but its assignments fall on
copies, and every cell keeps the value it began with.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from bench.accuracy.encoding import Array, LevelCodes

PYTHON = "HYPERIMPUTE_PYTHON"
MOST_SECONDS = 1800.0  # of one table; its search tries learners for every column
WORKER = Path(__file__).with_name("hyper_impute_worker.py")


class HyperImpute:
    """Its default plugin, levels as codes; new rows are left out, as ``transform`` searches and fits anew."""

    def fit_transform(self, table: pd.DataFrame) -> pd.DataFrame:
        """Complete a table.

        Raises
        ------
        RuntimeError
            HYPERIMPUTE_PYTHON is not set, or the other Python failed.
        subprocess.TimeoutExpired
            It took more than ``MOST_SECONDS``.
        """
        python = os.environ.get(PYTHON)
        if not python:
            raise RuntimeError(f"{PYTHON} must name a Python that has hyperimpute; see bench/accuracy/hyper_impute.py")
        codes = LevelCodes(table)
        completed = self._run(python, codes.encode(table), max(map(len, codes.levels.values()), default=0))
        return codes.fill(table, completed)

    @staticmethod
    def _run(python: str, matrix: Array, most_levels: int) -> Array:
        with tempfile.TemporaryDirectory() as folder:
            given, found = Path(folder, "given.npy"), Path(folder, "found.npy")
            np.save(given, matrix)
            # -I: nothing of ours on the other Python's path.
            command = [python, "-I", str(WORKER), str(given), str(found), str(most_levels)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=MOST_SECONDS)
            if done.returncode:
                raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
            completed: Array = np.load(found)
        if completed.shape != matrix.shape or not np.isfinite(completed).all():
            raise RuntimeError(f"hyperimpute gave a matrix of shape {completed.shape} or one with holes")
        return completed
