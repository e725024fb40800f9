"""``vsae-fast fit``."""

from __future__ import annotations

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
@click.argument("model", metavar="MODEL", type=file_argument)
@click.option("--overwrite", is_flag=True, help="Replace a model that exists.")
@with_options(READING, TRAINING, RUNNING, [JSON])
def fit(source: Path, model: Path, **options: Any) -> None:
    """Train on the table IN and keep the model in the file MODEL (.safetensors), for impute --model."""
    from vsae_fast.cli.table_file import check_target

    check_target(model, options["overwrite"])
    begin = time.perf_counter()
    _, used = read_source(source, options)
    imputer = imputer_of(options).fit(used.values)
    imputer.save(model, overwrite=options["overwrite"])
    summary = {
        "model": model,
        "rows": used.values.num_rows,
        "columns": used.values.num_columns,
        "networks": len(imputer.models_),
        "epochs": imputer.n_iter_,
        "seconds": round(time.perf_counter() - begin, 2),
    }
    text = (
        f"trained {summary['networks']} networks on {summary['rows']:,} rows x {summary['columns']} columns, "
        f"{summary['seconds']} s: {model}"
    )
    report(summary, text, as_json=options["as_json"], quiet=options["quiet"])
