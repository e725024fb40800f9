"""What ``vsae-fast impute`` does with a folder or a pattern of files, or with one file that is to go into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vsae_fast.cli.options import check_with_model, read_overrides, report

PARQUET, TEXT = (".parquet", ".pq"), (".csv", ".tsv")
NOT_FOR_FOLDERS = {
    "save_model": "--save-model",
    "checkpoint_dir": "--checkpoint-dir",  # a stream keeps its own
}


def is_stream(source: Path, target: Path) -> bool:
    """Whether a source is a folder, a pattern, or a Parquet or text file that is to go into a folder."""
    pattern = any(sign in str(source) for sign in "*?[") and not source.exists()
    return source.is_dir() or pattern or (source.suffix.lower() in (*PARQUET, *TEXT) and not target.suffix)


def stream(source: Path, target: Path, mask: Path | None, options: dict[str, Any]) -> None:
    """Complete files of any size; see :func:`vsae_fast.stream.impute_parquet`."""
    from tqdm.auto import tqdm

    from vsae_fast.cli.table_file import arrow
    from vsae_fast.monitor import on_screen
    from vsae_fast.stream import MAX_TRAIN_ROWS, impute_parquet

    unfit = [flag for name, flag in NOT_FOR_FOLDERS.items() if options[name]]
    unfit += ["--mask"] * (mask is not None) + ["--n-imputations"] * (options["n_imputations"] > 1)
    if unfit:
        raise click.UsageError(f"{unfit[0]} is for single files; here IN or OUT is a folder or a pattern")
    check_with_model(options)
    arrow()
    if source.is_file():
        target = target / (source.with_suffix(".parquet").name if source.suffix.lower() in TEXT else source.name)
    names = ("n_samples", "n_models", "epochs", "max_time", "n_jobs")
    params = {name: options[name] for name in names if options[name] is not None}
    if options["bootstrap"]:
        params["bootstrap"] = True
    if options["self_masking"]:
        params["self_masking"] = list(options["self_masking"])
    if "," in options["device"]:
        params["devices"] = options["device"].split(",")
    else:
        params["device"] = options["device"]
    if options["overrides"]:
        params["schema"] = read_overrides(options["overrides"])
    with tqdm(desc="imputing", unit="row group", disable=options["quiet"] or not on_screen()) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        done = impute_parquet(
            source,
            target,
            options["model"],
            ignore=options["ignore"],
            max_train_rows=options["max_train_rows"] or MAX_TRAIN_ROWS,
            random_state=options["seed"],
            overwrite=options["overwrite"],
            restart=options["restart"],
            on_error=options["on_error"],
            delimiter=options["delimiter"],
            na_values=options["na_values"],
            engine=options["engine"],
            address=options["address"],
            concurrency=options["concurrency"],
            progress=progress,
            preset=options["preset"],
            **params,
        )
    summary = {
        "output": target,
        "files": done.files,
        "rows": done.rows,
        "row_groups": done.row_groups,
        "resumed": done.resumed,
        "filled": done.filled,
        "skipped": done.skipped,
        "seconds": round(done.seconds, 2),
    }
    again = f", {done.resumed} row groups from an earlier run" if done.resumed else ""
    text = (
        f"filled {sum(done.filled.values()):,} cells in {len(done.filled)} columns of {done.rows:,} rows in "
        f"{done.files} files{again}, {summary['seconds']} s: {target}"
    )
    for message in done.skipped:
        click.echo(f"left out: {message}", err=True)
    report(summary, text, as_json=options["as_json"], quiet=options["quiet"])
