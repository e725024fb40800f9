"""Impute half of scikit-learn's breast cancer table and compare with simple and chained imputation.

python examples/demo.py [--output DIR] [--quick]
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, SimpleImputer

import vsae_fast

HIDDEN_SHARE = 0.5


def load_table() -> pd.DataFrame:
    """Thirty measurements, and the diagnosis as text: 569 rows."""
    bunch = load_breast_cancer(as_frame=True)
    table = bunch.data.copy()
    table.insert(0, "diagnosis", bunch.target.map(dict(enumerate(bunch.target_names))))
    return table


def mean_and_mode(table: pd.DataFrame, numerical: list[str], categorical: list[str]) -> pd.DataFrame:
    """Scikit-learn's SimpleImputer: the mean of numbers, the mode of categories."""
    parts = [("n", SimpleImputer(), numerical), ("c", SimpleImputer(strategy="most_frequent"), categorical)]
    transformer = ColumnTransformer(parts, verbose_feature_names_out=False).set_output(transform="pandas")
    return transformer.fit_transform(table)[table.columns]


def chained_regressions(table: pd.DataFrame, numerical: list[str], categorical: list[str]) -> pd.DataFrame:
    """Scikit-learn's IterativeImputer on standardised numbers and dummy-coded levels.

    The first level has no column of its own: with all of them, each would predict the others' missing cells perfectly
    from their starting values, and nothing would ever move.
    """
    mean, std = table[numerical].mean(), table[numerical].std()
    blocks = {
        name: pd.get_dummies(table[name], drop_first=True, dtype=float).where(table[name].notna(), np.nan)
        for name in categorical
    }
    encoded = pd.concat([(table[numerical] - mean) / std, *blocks.values()], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        filled = pd.DataFrame(
            IterativeImputer(max_iter=10, random_state=0).fit_transform(encoded.to_numpy()),
            columns=encoded.columns,
            index=table.index,
        )
    result = filled[numerical] * std + mean
    for name, block in blocks.items():
        first = sorted(table[name].dropna().unique())[0]
        share = filled[list(block.columns)]
        result[name] = share.assign(**{first: 1 - share.sum(axis=1)}).idxmax(axis=1)
    return result[table.columns]


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder for the results")
    parser.add_argument("--quick", action="store_true", help="train for a few epochs only, to see that it runs")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    truth = load_table()
    categorical = ["diagnosis"]
    numerical = [name for name in truth.columns if name not in categorical]
    incomplete, mask = vsae_fast.missingness.ampute(truth, "MCAR", HIDDEN_SHARE, random_state=0)
    print(f"Breast cancer table: {truth.shape[0]} rows, {truth.shape[1]} columns, {(~mask).sum():,} cells hidden.\n")
    schema = str(vsae_fast.describe_schema(incomplete)).splitlines()
    print("\n".join([*schema[:4], f"... and {len(schema) - 4} more columns\n"]))

    imputer = vsae_fast.VSAEImputer(random_state=0, verbose=1, epochs=3 if arguments.quick else None)
    begin = time.perf_counter()
    completed = imputer.fit_transform(incomplete)
    seconds = {"vsae_fast": time.perf_counter() - begin}
    results = {"vsae_fast": completed}
    for name, method in (("mean / mode", mean_and_mode), ("IterativeImputer", chained_regressions)):
        begin = time.perf_counter()
        results[name] = method(incomplete, numerical, categorical)
        seconds[name] = time.perf_counter() - begin

    print(f"\n{'error on the hidden cells':<26}{'NRMSE (numbers)':>16}{'PFC (categories)':>18}{'seconds':>9}")
    for name in ("mean / mode", "IterativeImputer", "vsae_fast"):
        nrmse = vsae_fast.metrics.nrmse(truth, results[name], mask)
        pfc = vsae_fast.metrics.pfc(truth, results[name], mask)
        print(f"{name:<26}{nrmse:>16.3f}{pfc:>18.3f}{seconds[name]:>9.1f}")
    print("NRMSE: root mean squared error over the column's standard deviation; PFC: share of wrong levels.\n")

    table_path = arguments.output / "completed.csv"
    model_path = arguments.output / "model.safetensors"
    picture_path = arguments.output / "distributions.png"
    completed.to_csv(table_path, index=False)
    imputer.save(model_path, overwrite=True)
    panels = vsae_fast.plot.distributions(completed, mask, columns=["diagnosis", *numerical[:11]])
    panels[0].figure.savefig(picture_path, dpi=120)
    print("Written:")
    for path, what in (
        (table_path, "the completed table"),
        (model_path, "the model; vsae_fast.VSAEImputer.load() reads it"),
        (picture_path, "observed against imputed distributions"),
    ):
        print(f"  {path}  {what}")


if __name__ == "__main__":
    main()
