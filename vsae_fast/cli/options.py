"""Options that several commands share, and what becomes of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from vsae_fast.cli.table_file import TableFile

F = TypeVar("F", bound=Callable[..., Any])

file_argument = click.Path(path_type=Path)

READING = [
    click.option("--delimiter", help="Sign between the cells of a text file.  [default: tab in .tsv, comma in .csv]"),
    click.option("--na", "na_values", multiple=True, metavar="TEXT", help="A further text that means a missing cell."),
    click.option(
        "--ignore", multiple=True, metavar="COLUMN", help="Leave a column as it is: dates, identifiers, notes."
    ),
    click.option(
        "--schema",
        "overrides",
        multiple=True,
        metavar="COLUMN=KIND|FILE.json",
        help="What a column is: numerical, integer, boolean or categorical; or a JSON file of such pairs.",
    ),
]
TRAINING = [
    click.option("--preset", type=click.Choice(["auto", "paper"]), default="auto", show_default=True),
    click.option("--epochs", type=click.IntRange(min=0), help="Passes over the rows.  [default: by size]"),
    click.option("--max-time", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Of training."),
    click.option(
        "--checkpoint-dir",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="FOLDER",
        help="Where training writes how far it has come, and goes on from.",
    ),
    click.option("--n-models", type=click.IntRange(min=1), help="Networks for each weight decay.  [default: 2 or 3]"),
    click.option(
        "--self-masking", multiple=True, metavar="COLUMN", help="Numbers that are missing because of their own value."
    ),
    click.option("--bootstrap", is_flag=True, help="Train each network on rows drawn with replacement."),
]
OF_TRAINING = {
    "overrides": "--schema", "epochs": "--epochs", "n_models": "--n-models", "bootstrap": "--bootstrap",
    "self_masking": "--self-masking", "max_time": "--max-time", "checkpoint_dir": "--checkpoint-dir",
    "save_model": "--save-model",
}  # fmt: skip
RUNNING = [
    click.option(
        "--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:NUMBER; of a folder several."
    ),
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True),
    click.option("--n-jobs", type=int, help="Threads; -1 for all processors.  [default: torch's]"),
    click.option(
        "--n-samples", type=click.IntRange(min=1), help="Importance samples a row.  [default: as precise needs]"
    ),
    click.option("--quiet", is_flag=True, help="No progress bar and no summary."),
]
JSON = click.option("--json", "as_json", is_flag=True, help="Write the summary as JSON.")


def with_options(*groups: Sequence[Callable[[F], F]]) -> Callable[[F], F]:
    """Decorate a command with groups of options, in their order."""

    def decorate(function: F) -> F:
        for option in reversed([option for group in groups for option in group]):
            function = option(function)
        return function

    return decorate


def read_overrides(pairs: Sequence[str]) -> dict[str, str] | None:
    """``COLUMN=KIND`` texts and JSON files to one dict.

    Raises
    ------
    click.UsageError
        A text that is neither.
    """
    overrides: dict[str, str] = {}
    for pair in pairs:
        name, sign, kind = pair.rpartition("=")
        if sign:
            overrides[name] = kind
            continue
        if not pair.endswith(".json"):
            raise click.UsageError(f"--schema {pair!r} is neither COLUMN=KIND nor a .json file")
        try:
            content = json.loads(Path(pair).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise click.UsageError(f"--schema: there is no file {pair}") from error
        except ValueError as error:
            raise click.UsageError(f"--schema: {pair} is no JSON ({error})") from error
        if not isinstance(content, dict):
            raise click.UsageError(f"--schema: {pair} must hold one object of column to kind")
        overrides.update(content)
    return overrides or None


def read_source(path: Path, options: dict[str, Any]) -> tuple[TableFile, TableFile]:
    """Read a table; the whole of it, and the part that is not ignored.

    Raises
    ------
    ValueError
        An ignored column that is not there, or nothing left.
    """
    from vsae_fast.cli.table_file import read_file, select

    source = read_file(path, options["delimiter"], options["na_values"])
    names = source.values.column_names
    for name in options["ignore"]:
        if name not in names:
            raise ValueError(f"--ignore {name!r}: {path} has no such column; it has {', '.join(names[:10])}")
    kept = [name for name in names if name not in options["ignore"]]
    if not kept:
        raise ValueError("every column is ignored; leave one")
    times = [field.name for field in source.values.select(kept).schema if _is_time_of_day(field.type)]
    if times:
        raise ValueError(
            f"column {times[0]!r} of {path} holds times of day; pass --ignore {times[0]!r} to leave it as it is, "
            "or turn it into numbers first"
        )
    return source, select(source, kept)


def _is_time_of_day(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_time(kind))


def check_with_model(options: dict[str, Any]) -> None:
    """Refuse options of training beside a model that is trained already."""
    unfit = [flag for name, flag in OF_TRAINING.items() if options.get(name) not in (None, False, ())]
    if options["model"] and unfit:
        raise click.UsageError(f"--model uses what was trained before; leave {unfit[0]} out")


def imputer_of(options: dict[str, Any]) -> Any:
    """Estimator with the options of a command."""
    from vsae_fast.estimator import VSAEImputer

    return VSAEImputer(
        preset=options["preset"],
        schema=read_overrides(options["overrides"]),
        n_samples=options["n_samples"],
        n_models=options["n_models"],
        bootstrap=options["bootstrap"],
        self_masking=list(options["self_masking"]) or None,
        epochs=options["epochs"],
        max_time=options["max_time"],
        checkpoint_dir=options["checkpoint_dir"],
        device=options["device"],
        n_jobs=options["n_jobs"],
        random_state=options["seed"],
        verbose=0 if options["quiet"] else 1,
    )


def report(summary: dict[str, Any], text: str, *, as_json: bool, quiet: bool = False) -> None:
    """Print what was done: JSON on request, else a line of text unless it is to be quiet."""
    if as_json:
        click.echo(json.dumps(summary, default=str))
    elif not quiet:
        click.echo(text)
