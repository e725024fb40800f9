"""Tables in files: CSV, TSV, Parquet and Feather, by the name's ending; what is written appears whole or not at all.

Text formats are read twice, as values for the model and as text, so that an observed cell is written exactly as it was:
``007`` and ``1.50`` stay.
"""

from __future__ import annotations

import csv
import datetime
import gzip
import io
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsae_fast.text_source import check_names, null_options, parse_options
from vsae_fast.whole_file import whole_file

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = {
    ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".pq": "parquet", ".feather": "feather", ".arrow": "feather",
}  # fmt: skip
KNOWN = ".csv, .tsv (both also with .gz), .parquet or .feather"
MOST_EXPANSION, LEAST_EXPANDED = 200, 1 << 26  # of a zipped table: times its size, and bytes that are always allowed
DIGITS = 7  # of an imputed number in a text file: the model computes in single precision


@dataclass(frozen=True)
class TableFile:
    """A table that was read from a file.

    Attributes
    ----------
    path : Path
    values : pyarrow.Table
        What the model sees.
    text : pyarrow.Table or None
        The cells as they stand in a text file.
    """

    path: Path
    values: pa.Table
    text: pa.Table | None


def format_of(path: Path) -> str:
    """Format that a file's name says.

    Raises
    ------
    ValueError
        It says none that is known.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    zipped = bool(suffixes) and suffixes[-1] == ".gz"
    ending = suffixes[-2] if zipped and len(suffixes) > 1 else suffixes[-1] if suffixes else ""
    known = FORMATS.get(ending)
    if known is None or (zipped and known != "csv"):
        raise ValueError(f"{path} has no ending that tells its format; use {KNOWN}")
    return known


def read_file(path: Path, delimiter: str | None = None, na_values: Sequence[str] = ()) -> TableFile:
    """Read a table.

    Parameters
    ----------
    path : Path
    delimiter : str, optional
        Of a text file; a tab in .tsv and a comma in .csv where it is left out.
    na_values : sequence of str
        Further texts that mean a missing cell.

    Raises
    ------
    FileNotFoundError, ValueError, ImportError
    """
    kind = format_of(path)
    arrow()
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if not path.is_file():
        raise ValueError(f"{path} is no file; pass one file ({KNOWN})")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")
    try:
        if kind == "csv":
            values, text = _read_text(path, delimiter, na_values)
        else:
            values, text = _read_binary(path, kind), None
    except (ValueError, OSError, NotImplementedError) as error:  # the last for codecs that pyarrow lacks
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{path} cannot be read as {kind}: {str(error).splitlines()[0]}") from error
    names = values.column_names
    repeated = sorted({name for name in names if names.count(name) > 1})  # text files have been checked
    if repeated:
        raise ValueError(f"{path} has several columns of one name: {', '.join(repeated)}; rename them")
    if values.num_rows == 0:
        raise ValueError(f"{path} has a header but no rows")
    return TableFile(path, values, text)


def _read_binary(path: Path, kind: str) -> pa.Table:
    if kind == "parquet":
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(path) as file:  # read_table would take columns from folders called key=value
            return file.read()
    import pyarrow.feather

    return pyarrow.feather.read_table(path)


def _read_text(path: Path, delimiter: str | None, na_values: Sequence[str]) -> tuple[pa.Table, pa.Table]:
    import pyarrow as pa
    import pyarrow.csv

    content = _unzipped(path) if path.suffix.lower() == ".gz" else path.read_bytes()
    parse, options = parse_options(path, delimiter), null_options(na_values)
    typed = pyarrow.csv.ConvertOptions(**options)
    values = pyarrow.csv.read_csv(io.BytesIO(content), parse_options=parse, convert_options=typed)
    names = values.column_names
    binary = [field.name for field in values.schema if pa.types.is_binary(field.type)]
    if binary:
        raise ValueError(f"column {binary[0]!r} is not UTF-8 text; convert the file, for example with iconv")
    check_names(names, parse.delimiter)
    as_text = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), **options)
    return values, pyarrow.csv.read_csv(io.BytesIO(content), parse_options=parse, convert_options=as_text)


def _unzipped(path: Path) -> bytes:
    """Content of a gzipped file that does not expand beyond what a table does."""
    limit = max(LEAST_EXPANDED, MOST_EXPANSION * path.stat().st_size)
    try:
        with gzip.open(path, "rb") as file:
            content = file.read(limit + 1)
    except (EOFError, zlib.error) as error:
        raise ValueError(f"it is damaged ({error})") from error
    if len(content) > limit:
        raise ValueError(
            f"it expands to more than {MOST_EXPANSION} times its size, which no table does; if you trust it, unzip it"
        )
    return content


def with_texts(source: TableFile, completed: pa.Table, levels: Sequence[str]) -> pa.Table:
    """Completed table as it is to be written: in text files observed cells keep their text.

    Parameters
    ----------
    source : TableFile
    completed : pyarrow.Table
        Columns of ``source.values`` without holes.
    levels : sequence of str
        Columns of levels or booleans, whose imputed cells take the spelling of the observed ones.
    """
    import pyarrow as pa

    if source.text is None:
        return completed.replace_schema_metadata(source.values.schema.metadata)
    columns = {}
    for name in completed.column_names:
        text, values = source.text[name].to_pylist(), completed[name].to_pylist()
        example = next((known for known in text if known is not None), "")
        spelled = _spelling(source.values[name].to_pylist(), text) if name in levels else {}
        columns[name] = pa.array(
            [
                known if known is not None else spelled.get(v) or _plain(v, example)
                for known, v in zip(text, values, strict=True)
            ],
            pa.string(),
        )
    return pa.table(columns)


def _spelling(values: list[Any], text: list[str | None]) -> dict[Any, str]:
    """First text of each value."""
    spelled: dict[Any, str] = {}
    for value, known in zip(values, text, strict=True):
        if value is not None and known is not None:
            spelled.setdefault(value, known)
    return spelled


def _plain(value: Any, example: str) -> str:
    """An imputed number or time, the latter as the column's first known cell is written."""
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}"
    if not isinstance(value, datetime.datetime):
        return str(value)
    written = value.isoformat("T" if "T" in example else " ", "minutes" if example.count(":") == 1 else "auto")
    return written.replace("+00:00", "Z") if example.endswith("Z") else written


def check_target(path: Path, overwrite: bool) -> None:
    """Raise before any work is done where a file could not be written.

    Raises
    ------
    FileExistsError, FileNotFoundError, PermissionError, ValueError
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file in it")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; pass --overwrite to replace it")
    folder = path.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder} to write {path.name} into; create it")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"the folder {folder} cannot be written to; choose another")


def write_file(path: Path, table: pa.Table, delimiter: str | None = None) -> None:
    """Write a table in the format that the name says; strings as they are in text files."""
    kind = format_of(path)
    with whole_file(path) as temporary:
        if kind == "csv":
            separator = delimiter or ("\t" if ".tsv" in path.suffixes else ",")
            _write_text(temporary, table, separator, path.suffix.lower() == ".gz")
        elif kind == "parquet":
            import pyarrow.parquet

            pyarrow.parquet.write_table(table, temporary)
        else:
            import pyarrow.feather

            pyarrow.feather.write_feather(table, str(temporary))


def _write_text(path: Path, table: pa.Table, separator: str, zipped: bool) -> None:
    opener: Any = gzip.open if zipped else open
    with opener(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=separator, lineterminator="\n")
        writer.writerow(table.column_names)
        for batch in table.to_batches(max_chunksize=65_536):
            columns = [column.to_pylist() for column in batch.columns]
            writer.writerows(zip(*columns, strict=True))


def arrow() -> None:
    """Raise ImportError with the remedy where pyarrow is missing."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ImportError("reading and writing files needs pyarrow; pip install 'vsae_fast[files]'") from error


def select(source: TableFile, names: Sequence[str]) -> TableFile:
    """Some columns of a table that was read."""
    text = None if source.text is None else source.text.select(list(names))
    return replace(source, values=source.values.select(list(names)), text=text)
