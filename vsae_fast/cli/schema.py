"""``vsae-fast schema``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from vsae_fast.cli.options import JSON, READING, file_argument, read_overrides, read_source, with_options


@click.command()
@click.argument("source", metavar="IN", type=file_argument)
@with_options(READING, [JSON])
def schema(source: Path, **options: Any) -> None:
    """Print what each column of the table IN is taken for, and how much of it is missing."""
    from vsae_fast.one_call import describe_schema

    overrides = read_overrides(options["overrides"])
    _, used = read_source(source, options)
    described = describe_schema(used.values, schema=overrides)
    if options["as_json"]:
        columns = [
            {
                "name": column.name, "kind": column.kind, "role": column.role, "detected": column.detected,
                "levels": len(column.levels), "missing": used.values[column.name].null_count,
            }
            for column in described.columns
        ]  # fmt: skip
        click.echo(json.dumps({"rows": used.values.num_rows, "columns": columns}))
        return
    lines = str(described).splitlines()
    missing = ["missing", *(f"{used.values[c.name].null_count / used.values.num_rows:.1%}" for c in described.columns)]
    width = max(map(len, missing))
    click.echo("\n".join(f"{share:>{width}}  {line}" for share, line in zip(missing, lines, strict=True)))
    click.echo("\nTo change a kind: --schema COLUMN=numerical, integer, boolean or categorical.")
