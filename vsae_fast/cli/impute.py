"""``vsae-fast impute``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vsae_fast.cli.options import (
    JSON,
    READING,
    RUNNING,
    TRAINING,
    check_with_model,
    file_argument,
    imputer_of,
    read_source,
    report,
    with_options,
)
from vsae_fast.cli.stream import is_stream, stream

if TYPE_CHECKING:
    import pyarrow as pa

    from vsae_fast.cli.table_file import TableFile


@click.command()
@click.argument("source", metavar="IN", type=file_argument)
@click.argument("target", metavar="OUT", type=file_argument)
@click.option("--mask", "mask_path", type=file_argument, help="A file of IN's shape: 1 or true = observed.")
@click.option("--model", type=file_argument, help="Use a trained model; nothing is trained.")
@click.option("--save-model", type=file_argument, help="Keep the trained model.")
@click.option(
    "--n-imputations",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="More than 1: as many draws below each other, numbered in a first column 'imputation'.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option(
    "--max-train-rows",
    type=click.IntRange(min=1),
    help="Rows to train on where IN or OUT is a folder.  [default: 100,000]",
)
@click.option("--restart", is_flag=True, help="Of a folder: throw away what an unfinished run left.")
@click.option(
    "--on-error",
    type=click.Choice(["raise", "skip"]),
    default="raise",
    help="Of a folder: stop at a damaged file or row group, or leave it out and name it.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    help="Of a folder: complete it here, or on a Ray cluster.",
)
@click.option("--address", help="Of the Ray cluster.  [default: this machine alone]")
@click.option("--concurrency", type=click.IntRange(min=1), help="Workers on Ray.  [default: all processors]")
@with_options(READING, TRAINING, RUNNING, [JSON])
def impute(source: Path, target: Path, mask_path: Path | None, **options: Any) -> None:
    """Train on the table IN and write it to OUT with its holes filled.

    Both are CSV, TSV, Parquet or Feather files, by their ending. Cells that are not missing are written as they are.

    Where IN is a folder or a quoted pattern of Parquet files, or a Parquet file and OUT a folder, files are completed
    row group by row group, whatever their size, and a run that was cut off goes on when it is started again.
    """
    if is_stream(source, target):
        return stream(source, target, mask_path, options)
    from vsae_fast.cli.table_file import check_target, format_of, write_file

    check_with_model(options)
    for_folders = ("max_train_rows", "restart", "address", "concurrency")
    if any(options[name] for name in for_folders) or options["on_error"] != "raise" or options["engine"] != "local":
        raise click.UsageError(
            "--max-train-rows, --restart, --on-error and --engine are for folders and patterns of Parquet files"
        )
    format_of(target)
    check_target(target, options["overwrite"])
    if options["save_model"]:
        check_target(options["save_model"], options["overwrite"])
    begin = time.perf_counter()
    whole, used = read_source(source, options)
    mask = None if mask_path is None else _read_mask(mask_path, used, options)
    imputer = _trained(used, mask, options)
    if options["save_model"]:
        imputer.save(options["save_model"], overwrite=options["overwrite"])
    result = _completed(imputer, whole, used, mask, options["n_imputations"])
    write_file(target, result, options["delimiter"])
    filled = _n_missing(used, mask)
    summary = {
        "output": target,
        "rows": used.values.num_rows,
        "columns": len(whole.values.column_names),
        "imputations": options["n_imputations"],
        "filled": {name: count for name, count in filled.items() if count},
        "seconds": round(time.perf_counter() - begin, 2),
    }
    n_cells, n_columns = sum(filled.values()), sum(count > 0 for count in filled.values())
    times = f", {options['n_imputations']} times" if options["n_imputations"] > 1 else ""
    text = f"filled {n_cells:,} cells in {n_columns} columns{times}, {summary['seconds']} s: {target}"
    report(summary, text, as_json=options["as_json"], quiet=options["quiet"])
    return None


def _trained(used: TableFile, mask: Any, options: dict[str, Any]) -> Any:
    from vsae_fast.estimator import VSAEImputer

    if options["model"] is None:
        return imputer_of(options).fit(used.values, mask=mask)
    imputer = VSAEImputer.load(options["model"])
    imputer.set_params(device=options["device"], n_jobs=options["n_jobs"])
    return imputer if options["n_samples"] is None else imputer.set_params(n_samples=options["n_samples"])


def _read_mask(path: Path, used: TableFile, options: dict[str, Any]) -> Any:
    from vsae_fast.cli.table_file import read_file

    table = read_file(path, options["delimiter"]).values
    lacking = [name for name in used.values.column_names if name not in table.column_names]
    if lacking:
        raise ValueError(f"the mask {path} has no column {lacking[0]!r}; give it the columns of the table")
    return table.select(used.values.column_names)


def _completed(imputer: Any, whole: TableFile, used: TableFile, mask: Any, n_imputations: int) -> pa.Table:
    """Completed table as it is to be written: ignored columns are back in their places."""
    import pyarrow as pa

    if n_imputations == 1:
        return _merged(imputer, whole, used, mask, imputer.transform(used.values, mask=mask))
    draws = imputer.sample(used.values, n_imputations, mask=mask)
    tables = []
    for number, draw in enumerate(draws):
        table = _merged(imputer, whole, used, mask, draw)
        if "imputation" in table.column_names:
            raise ValueError("the table has a column 'imputation' already; rename it")
        tables.append(table.add_column(0, "imputation", pa.array([number] * table.num_rows, pa.int64())))
    return pa.concat_tables(tables)


def _merged(imputer: Any, whole: TableFile, used: TableFile, mask: Any, completed: pa.Table) -> pa.Table:
    from vsae_fast.cli.table_file import with_texts
    from vsae_fast.impute_table import with_ignored

    levels = [column.name for column in imputer.schema_.columns if column.kind in ("categorical", "boolean")]
    written = with_texts(_without_masked(used, mask), completed, levels)
    origin = whole.values if whole.text is None else whole.text
    return with_ignored(origin, written)


def _without_masked(used: TableFile, mask: Any) -> TableFile:
    """Texts of the cells that count as observed."""
    from dataclasses import replace

    import pyarrow as pa
    import pyarrow.compute as pc

    if mask is None or used.text is None:
        return used
    text = used.text
    for position, name in enumerate(text.column_names):
        seen = pc.equal(pc.cast(mask[name], pa.float64()), 1.0)
        text = text.set_column(position, name, pc.if_else(seen, text[name], pa.scalar(None, pa.string())))
    return replace(used, text=text)


def _n_missing(used: TableFile, mask: Any) -> dict[str, int]:
    """Missing cells of each column."""
    from vsae_fast.table.containers import read_table
    from vsae_fast.table.mask import observed_cells

    observed = observed_cells(read_table(used.values), mask)
    return {name: int(count) for name, count in zip(used.values.column_names, (~observed).sum(axis=0), strict=True)}
