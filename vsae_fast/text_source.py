"""CSV and TSV files as a source of any size: turned into Parquet, block by block, before they are completed.

A file is read twice. The first pass finds the type that every cell of a column has: a reader that guesses from the
first block fails at the first ``1.5`` of a column that began with ``1``. The second writes the values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsae_fast.parquet_source import ParquetFiles, UnreadableError
from vsae_fast.source_files import SourceFiles, find_paths
from vsae_fast.whole_file import whole_file

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.csv

ENDINGS = (".csv", ".tsv")
GROUP_ROWS = 65_536  # of the Parquet files
SIGNS = (";", "\t", ",", "|")


@dataclass(frozen=True)
class TextFiles(SourceFiles):
    """Text files of one header.

    Parameters
    ----------
    paths, root, single
        See :class:`~vsae_fast.source_files.SourceFiles`.
    delimiter : str or None
        A tab in .tsv and a comma in .csv where it is None.
    na_values : tuple of str
        Further texts that mean a missing cell.
    """

    delimiter: str | None = None
    na_values: tuple[str, ...] = ()

    @property
    def relative(self) -> list[Path]:
        """Names of the Parquet files, below the folder that was given."""
        return [name.with_suffix(".parquet") for name in super().relative]

    def state(self) -> list[list[Any]]:
        """Name, size and time of change of each file, and how they are read."""
        return [*super().state(), [self.delimiter, *self.na_values]]


def find_text(source: Path, delimiter: str | None = None, na_values: Sequence[str] = ()) -> TextFiles | None:
    """Text files that a path means: itself, those below a folder, or those that a pattern matches; None for no text.

    Raises
    ------
    ValueError
        Text and Parquet files side by side, or two files whose results would have one name.
    """
    found = find_paths(source)
    text = [path for path in found.paths if path.suffix.lower() in ENDINGS]
    if not text:
        return None
    if any(path.suffix.lower() == ".parquet" for path in found.paths):
        raise ValueError(f"{source} holds text and Parquet files; name one kind by a pattern such as 'folder/*.csv'")
    files = TextFiles(tuple(text), found.root, found.single, delimiter, tuple(na_values))
    names = files.relative
    twice = [path for path, name in zip(text, names, strict=True) if names.count(name) > 1]
    if twice:
        raise ValueError(f"{twice[0]} and {twice[1]} would both become {twice[0].stem}.parquet; rename one of them")
    return files


def parse_options(path: Path, delimiter: str | None) -> pyarrow.csv.ParseOptions:
    """How the lines of a file are cut."""
    import pyarrow.csv

    separator = delimiter or ("\t" if ".tsv" in path.suffixes else ",")
    return pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True)


def null_options(na_values: Sequence[str]) -> dict[str, Any]:
    """Which texts mean a missing cell."""
    import pyarrow.csv

    return {"strings_can_be_null": True, "null_values": [*pyarrow.csv.ConvertOptions().null_values, *na_values]}


def check_names(names: Sequence[str], delimiter: str) -> None:
    """Raise ValueError for a header that was cut at the wrong sign, or that repeats a name."""
    if len(names) == 1:
        other = [sign for sign in SIGNS if sign != delimiter and sign in names[0]]
        if other:
            raise ValueError(f"it has one column, {names[0][:60]!r}; pass --delimiter {other[0]!r}")
    repeated = sorted({name for name in names if list(names).count(name) > 1})
    if repeated:
        raise ValueError(f"it has several columns of one name: {', '.join(repeated)}; rename them")


def to_parquet(files: TextFiles, folder: Path, *, skip_unreadable: bool = False) -> ParquetFiles:
    """Write the files as Parquet into a folder; those that are there already are not written again.

    Parameters
    ----------
    files : TextFiles
    folder : Path
        A work folder of this source alone.
    skip_unreadable : bool
        Leave damaged files out instead of raising.

    Raises
    ------
    UnreadableError
        A file that is damaged, empty, or has another header than the first.
    """
    readable, unreadable, common = [], [], None
    for path in files.paths:
        try:
            found = _types(path, files)
            common = found if common is None else _common(common, found, path, readable[0])
            readable.append(path)
        except UnreadableError as error:
            unreadable.append(str(error))
            if not skip_unreadable:
                raise
    if common is None:
        raise UnreadableError(unreadable[0])
    types = {name: kinds[0] for name, kinds in common.items()}
    written = []
    for path, name in zip(files.paths, files.relative, strict=True):
        if path not in readable:
            continue
        written.append(folder / name)
        if not written[-1].exists():
            written[-1].parent.mkdir(parents=True, exist_ok=True)
            _write(path, written[-1], types, files)
    return ParquetFiles(tuple(written), folder, files.single, tuple(unreadable))


Kinds = dict[str, list["pa.DataType"]]  # types that all cells of a column have, the narrowest first


def _blocks(path: Path, files: TextFiles, types: dict[str, Any] | None = None) -> Iterator[pa.RecordBatch]:
    """Rows of a file, as text where no types are given; the first block may be empty."""
    import pyarrow as pa
    import pyarrow.csv

    parse = parse_options(path, files.delimiter)
    try:
        with path.open("rb") as file:
            # The first line alone, as the column names have to be known before they can be given types.
            head = pyarrow.csv.open_csv(file, parse_options=parse).schema.names
        check_names(head, parse.delimiter)
        types = dict.fromkeys(head, pa.string()) if types is None else types
        convert = pyarrow.csv.ConvertOptions(column_types=types, **null_options(files.na_values))
        with path.open("rb") as file:
            yield from pyarrow.csv.open_csv(file, parse_options=parse, convert_options=convert)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise UnreadableError(f"{path} cannot be read as text: {str(error).splitlines()[0]}") from error


def _types(path: Path, files: TextFiles) -> Kinds:
    import pyarrow as pa

    narrowest_first = (
        pa.int64(), pa.bool_(), pa.date32(), pa.timestamp("s"), pa.timestamp("ns"), pa.timestamp("s", "UTC"),
        pa.timestamp("ns", "UTC"), pa.float64(), pa.string(),
    )  # fmt: skip
    kinds: Kinds = {}
    n_rows = 0
    for block in _blocks(path, files):
        n_rows += block.num_rows
        for name, cells in zip(block.schema.names, block.columns, strict=True):
            kinds[name] = [kind for kind in kinds.get(name, narrowest_first) if _holds(kind, cells)]
    if n_rows == 0:
        raise UnreadableError(f"{path} has no rows")
    return kinds


def _holds(kind: pa.DataType, cells: pa.Array) -> bool:
    import pyarrow as pa

    try:
        cells.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def _common(common: Kinds, found: Kinds, path: Path, first: Path) -> Kinds:
    for name in {*common, *found}:
        if name not in common or name not in found:
            raise UnreadableError(f"{path} and {first} differ in column {name!r}; give all files the same columns")
    return {name: [kind for kind in kinds if kind in found[name]] for name, kinds in common.items()}


def _write(path: Path, target: Path, types: dict[str, Any], files: TextFiles) -> None:
    """Write one file, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with whole_file(target) as temporary:
        schema = pa.schema(list(types.items()))
        with pq.ParquetWriter(temporary, schema) as writer:
            held: list[pa.RecordBatch] = []
            for block in _blocks(path, files, types):
                held.append(block.select(schema.names))
                if sum(part.num_rows for part in held) >= GROUP_ROWS:
                    table = pa.Table.from_batches(held)
                    whole = table.num_rows // GROUP_ROWS * GROUP_ROWS
                    writer.write_table(table.slice(0, whole), row_group_size=GROUP_ROWS)
                    held = table.slice(whole).to_batches()
            if held:
                writer.write_table(pa.Table.from_batches(held), row_group_size=GROUP_ROWS)
