"""The command line, ``vsae-fast``. Commands import what they need when they run: ``--help`` must come at once."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import click

import vsae_fast
from vsae_fast.cli.bench import bench
from vsae_fast.cli.evaluate import evaluate
from vsae_fast.cli.fit import fit
from vsae_fast.cli.impute import impute
from vsae_fast.cli.info import info
from vsae_fast.cli.schema import schema

# What bad input, a full disk, a missing extra and a diverging training raise; the library documents TypeError for
# tables that it cannot take. The message is for the user, the traceback is not. Anything else is a bug and shows where.
EXPECTED = (ValueError, TypeError, OSError, ImportError, FloatingPointError, MemoryError)
INTERRUPTED = 130  # as shells report SIGINT


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(vsae_fast.__version__, prog_name="vsae-fast")
def app() -> None:
    """Fill the holes of tables: CSV, Parquet and Feather files in, the same with no cell missing out."""


for command in (impute, fit, schema, evaluate, bench, info):
    app.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 an error, 2 a call that cannot be understood, 130 interrupted."""
    try:
        with _one_line_warnings():
            app.main(args=arguments, prog_name="vsae-fast", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("vsae-fast: interrupted; no file was left half-written", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except EXPECTED as error:
        text = " ".join(str(error).split()) or type(error).__name__
        click.echo(f"vsae-fast: error: {text}", err=True)
        sys.exit(1)


@contextmanager
def _one_line_warnings() -> Iterator[None]:
    """Show this library's warnings as one line each, and no others."""

    def show(message: Warning | str, category: type[Warning], *location: object, **more: object) -> None:
        del location, more
        if issubclass(category, UserWarning):
            click.echo(f"vsae-fast: warning: {message}", err=True)

    before = warnings.showwarning
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before
