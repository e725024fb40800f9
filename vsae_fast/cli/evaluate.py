"""``vsae-fast evaluate``."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import click

from vsae_fast.cli.options import (
    JSON,
    READING,
    RUNNING,
    TRAINING,
    file_argument,
    imputer_of,
    read_source,
    report,
    with_options,
)


@click.command()
@click.argument("source", metavar="IN", type=file_argument)
@click.option(
    "--hide",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    help="Share of the known cells to hide, completely at random.",
)
@with_options(READING, TRAINING, RUNNING, [JSON])
def evaluate(source: Path, hide: float, **options: Any) -> None:
    """Hide known cells of the table IN, impute them, and report the errors beside those of simple imputers."""
    import numpy as np

    from vsae_fast.metrics import nrmse, pfc
    from vsae_fast.missingness import ampute
    from vsae_fast.simple import fill_simply

    _, used = read_source(source, options)
    truth = used.values
    incomplete, _ = ampute(truth, p=hide, random_state=options["seed"])
    known = np.stack([~_is_null(truth[name]) for name in truth.column_names], axis=1)
    seen = np.stack([~_is_null(incomplete[name]) for name in truth.column_names], axis=1)
    mask = ~(known & ~seen)  # 0 = hidden, and known
    begin = time.perf_counter()
    imputer = imputer_of(options).fit(incomplete)
    results = {"vsae_fast": imputer.transform(incomplete)}
    seconds = time.perf_counter() - begin
    for strategy in ("mean", "median"):
        results[f"{strategy} / mode"] = fill_simply(incomplete, imputer.schema_, strategy)
    levels = [c.name for c in imputer.schema_.columns if c.kind in ("categorical", "boolean")]
    numbers = [name for name in truth.column_names if name not in levels]
    errors = {
        name: {"nrmse": nrmse(truth, table, mask, columns=numbers), "pfc": pfc(truth, table, mask, columns=levels)}
        for name, table in results.items()
    }
    summary = {
        "hidden": int((~mask).sum()),
        "seconds": round(seconds, 2),
        "errors": {m: {k: None if math.isnan(v) else round(v, 4) for k, v in e.items()} for m, e in errors.items()},
    }
    lines = [
        f"{summary['hidden']:,} of {int(known.sum()):,} known cells hidden; vsae_fast took {seconds:.1f} s",
        f"{'':<16}{'NRMSE of numbers':>18}{'wrong levels':>14}",
    ]
    for name, error in errors.items():
        cells = ["-" if math.isnan(error[key]) else f"{error[key]:.3f}" for key in ("nrmse", "pfc")]
        lines.append(f"{name:<16}{cells[0]:>18}{cells[1]:>14}")
    lines.append("NRMSE: root mean squared error over the column's standard deviation; 1 is as good as the mean.")
    report(summary, "\n".join(lines), as_json=options["as_json"])


def _is_null(column: Any) -> Any:
    return column.is_null(nan_is_null=True).to_numpy().astype(bool)
