"""Parquet files larger than memory: completed row group by row group, and taken up again where a run was cut off.

Every finished row group is a file of its own in a work folder beside the target, written under a temporary name, synced
and renamed; a log says which are done, with their checksums. A run that is started again does the rest and ends with
the same bytes as one that was never cut off.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vsae_fast.device_parts import device_parts
from vsae_fast.estimator import VSAEImputer
from vsae_fast.files import load, save
from vsae_fast.impute_table import ImputeTable, Model, model_bytes
from vsae_fast.only_run import LOCK, only_run
from vsae_fast.parquet_parts import Part, Todo, local_parts, part_name
from vsae_fast.parquet_sample import sample_rows
from vsae_fast.parquet_source import ParquetFiles, UnreadableError, find_files
from vsae_fast.placement import resolve_device
from vsae_fast.source_files import SourceFiles
from vsae_fast.stream_checks import check_ignored, check_options, check_target, make_folder
from vsae_fast.stream_log import StreamLog
from vsae_fast.table.bounds import with_range
from vsae_fast.text_source import find_text, to_parquet
from vsae_fast.whole_file import whole_file

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1  # of the work folder
MAX_TRAIN_ROWS = 100_000
MODEL = "model.safetensors"  # in the work folder
SOURCE = "source"  # text files as Parquet, in the work folder
TRAINING = "training"  # its checkpoints, in the work folder
WATCHING = ("callbacks", "checkpoint_dir", "n_jobs", "verbose")  # parameters that decide nothing of the result
Progress = Callable[[int, int], None]  # row groups done, of how many


@dataclass(frozen=True)
class StreamReport:
    """What :func:`impute_parquet` did.

    Attributes
    ----------
    files, row_groups, rows : int
        Of the whole target.
    resumed : int
        Row groups that an earlier run had finished.
    filled : dict of str to int
        Cells filled in each column that had holes.
    seconds : float
        Of this run.
    skipped : list of str
        What could not be read and is missing from the target, with ``on_error="skip"``: one message for each row group
        or file.
    """

    files: int
    row_groups: int
    rows: int
    resumed: int
    filled: dict[str, int]
    seconds: float
    skipped: list[str] = field(default_factory=list)


def impute_parquet(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    model: Model | None = None,
    *,
    ignore: Sequence[str] = (),
    max_train_rows: int = MAX_TRAIN_ROWS,
    random_state: int = 0,
    overwrite: bool = False,
    restart: bool = False,
    on_error: str = "raise",
    delimiter: str | None = None,
    na_values: Sequence[str] = (),
    engine: str = "local",
    devices: Sequence[str] | None = None,
    address: str | None = None,
    concurrency: int | None = None,
    progress: Progress | None = None,
    **params: Any,
) -> StreamReport:
    """Complete Parquet files of any size; memory follows the largest row group and the rows that are trained on.

    Reading, computing and writing overlap. Row order, row groups, schema, metadata, compression and the folders of a
    partitioned data set are kept.

    Parameters
    ----------
    source : path
        A file, a folder of ``.parquet`` files at any depth, or a pattern such as ``"data/2024-*.parquet"``; or CSV and
        TSV files in the same way, which are turned into Parquet first.
    target : path
        A file where ``source`` is one, else a folder, whose files are named as the source's. They are Parquet files.
    model : VSAEImputer or path, optional
        Trained; where it is left out, one is trained on a random sample of the rows.
    ignore : sequence of str
        Columns to leave as they are: dates, identifiers, notes.
    max_train_rows : int
        Size of that sample, which memory holds. A few rows of every level that it lacks are added, and imputed numbers
        keep to the range of all rows where the files' statistics tell it.
    random_state : int
        Decides the sample and the training.
    overwrite : bool
        Whether existing target files may be replaced.
    restart : bool
        Throw away what an unfinished run left, instead of going on with it.
    on_error : {"raise", "skip"}
        What to do about files and row groups that cannot be read: stop at the first, or leave them out of the target
        and name them in the report.
    delimiter : str, optional
        Between the cells of text files; a tab in .tsv and a comma in .csv where it is left out.
    na_values : sequence of str
        Further texts that mean a missing cell in text files.
    engine : {"local", "ray"}
        Where row groups are completed: in this process, or by the workers of a Ray cluster (extra ``ray``), all of
        whose machines see source and target under the same paths. The bytes are the same, and a run that was cut off
        may go on with the other one.
    devices : sequence of str, optional
        Of this machine, such as ``["cuda:0", "cuda:1"]``: a process for each completes row groups, and one that dies is
        replaced. This process alone, on ``device``, where it is left out.
    address : str, optional
        Of the Ray cluster; the one that Ray is connected to, or this machine alone, where it is left out.
    concurrency : int, optional
        Workers on Ray, of one processor each; all processors where it is left out.
    progress : callable, optional
        Called with the number of row groups that are done and how many there are.
    **params
        Of :class:`~vsae_fast.estimator.VSAEImputer`, for training and imputation.

    Returns
    -------
    StreamReport

    Raises
    ------
    FileNotFoundError, FileExistsError
        Of source and target.
    ValueError
        Files that cannot be read or differ in their columns, a target inside the source, or an unfinished run whose
        input, model or options were others.
    BlockingIOError
        Another run is at work on the target.
    """
    begin = time.perf_counter()
    check_options(on_error, engine, devices, address, concurrency)
    if devices is not None:
        params = {**params, "device": resolve_device(devices[0]).type}  # training runs on the first of that kind
    skip = on_error == "skip"
    text = find_text(Path(source), delimiter, na_values)
    if text is None:
        if delimiter is not None or na_values:
            raise ValueError("delimiter and na_values are for text files; leave them out")
        files = find_files(Path(source), skip_unreadable=skip)
        check_ignored(files, ignore)
    given_files = files if text is None else text
    out = Path(target)
    work = out.parent / f".{out.name}.vsae_fast"
    check_target(given_files, out, _targets(given_files, out), overwrite or work.exists())
    make_folder(work)
    with only_run(work):
        if restart:
            _clear(work)
        try:
            options = {**params, "on_error": on_error} if skip else params
            given = None if model is None else hashlib.sha256(model_bytes(model)).hexdigest()
            log = StreamLog(work, _fingerprint(given_files, given, ignore, max_train_rows, random_state, options))
            if text is not None:
                files = to_parquet(text, work / SOURCE, skip_unreadable=skip)
                check_ignored(files, ignore)
            targets = _targets(files, out)
            imputer = _model(work, files, model, ignore, max_train_rows, random_state, params, skip)
        except BaseException:
            begun = (work / MODEL).exists() or any((work / TRAINING).glob("*.safetensors"))
            if not begun:  # nothing that a further run could go on with
                shutil.rmtree(work)
            raise
        log.check_model(work / MODEL)
        resumed = len(log.parts)
        parts = _parts_of(files, imputer, ignore, work, engine, devices, address, concurrency)
        rows = _run(files, targets, work, log, parts, progress, skip)
    shutil.rmtree(work)
    n_groups = sum(files.n_row_groups) - len(log.skipped)
    skipped = [*files.unreadable, *log.skipped.values()]
    return StreamReport(len(targets), n_groups, rows, resumed, dict(log.filled()), time.perf_counter() - begin, skipped)


def _parts_of(
    files: ParquetFiles,
    imputer: VSAEImputer,
    ignore: Sequence[str],
    work: Path,
    engine: str,
    devices: Sequence[str] | None,
    address: str | None,
    concurrency: int | None,
) -> Callable[[Sequence[Todo]], Iterator[Part]]:
    """Who completes the row groups."""
    if engine == "ray":
        from vsae_fast.ray import completed_parts

        table = ImputeTable(imputer, ignore=ignore, n_jobs=1)
        return partial(completed_parts, files, table, work, address=address, concurrency=concurrency)
    if devices is not None:
        return partial(device_parts, files, imputer, ignore, work, devices=devices)
    return partial(local_parts, files, imputer, ignore, work)


def _targets(files: SourceFiles, out: Path) -> list[Path]:
    return [out if files.single else out / relative for relative in files.relative]


def _clear(work: Path) -> None:
    """Throw away what an unfinished run left."""
    for path in work.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


# ---- one run --------------------------------------------------------------------------------------------------------


def _run(
    files: ParquetFiles,
    targets: Sequence[Path],
    work: Path,
    log: StreamLog,
    parts_of: Callable[[Sequence[Todo]], Iterator[Part]],
    progress: Progress | None,
    skip: bool,
) -> int:
    """Do what is not done yet; return the target's rows."""
    groups = [[Todo(f, g, part_name(f, g)) for g in range(n)] for f, n in enumerate(files.n_row_groups)]
    known = {*log.parts, *log.skipped}
    done, total = len(known), sum(files.n_row_groups)
    for part in parts_of([item for own in groups for item in own if item.name not in known]):
        if not part.reason:
            log.done(part.name, part.sha256, part.filled)
        elif skip:
            log.skip(part.name, part.reason)
        else:
            raise UnreadableError(part.reason)
        done += 1
        if progress is not None:
            progress(done, total)
    n_rows = 0
    for file, (path, own) in enumerate(zip(targets, groups, strict=True)):
        kept = [item for item in own if item.name in log.parts]
        rows = files.group_rows(file)
        n_rows += sum(rows[item.group] for item in kept)
        if not log.finished(file) or not path.exists():
            _assemble([work / item.name for item in kept], path, work, files.schema, files.compression(file))
            log.finish(file)
    return n_rows


def _assemble(parts: Sequence[Path], path: Path, work: Path, schema: pa.Schema, compression: dict[str, str]) -> None:
    """Row groups, in their order, as one file that appears whole; ``schema`` is for a file that has none.

    What a killed process leaves lies in the work folder, which the run that comes to the end removes.
    """
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    if parts:
        schema = pq.read_schema(parts[0])
    with whole_file(path, work) as temporary, pq.ParquetWriter(temporary, schema, compression=compression) as writer:
        for part in parts:
            with pq.ParquetFile(part) as opened:  # read_table would take columns from folders called key=value
                table = opened.read()
            writer.write_table(table, row_group_size=max(table.num_rows, 1))


def _model(
    work: Path,
    files: ParquetFiles,
    model: Model | None,
    ignore: Sequence[str],
    max_train_rows: int,
    random_state: int,
    params: dict[str, Any],
    skip: bool,
) -> VSAEImputer:
    """The model of this run, kept in the work folder: a run that goes on does not train again."""
    kept = work / MODEL
    if not kept.exists():
        if model is None:
            rng = np.random.default_rng(random_state)
            sample = sample_rows(files, max_train_rows, rng, ignore=ignore, skip_unreadable=skip)
            params = {"checkpoint_dir": work / TRAINING, **params}
            fitted = VSAEImputer(random_state=random_state, **params).fit(sample)
            ends = {side: params.get(f"{name}_value") is None for side, name in (("low", "min"), ("high", "max"))}
            fitted.schema_ = with_range(fitted.schema_, files.ranges(), **ends)
        else:
            fitted = model if isinstance(model, VSAEImputer) else load(model)
        save(fitted, kept)
    imputer: VSAEImputer = load(kept)
    running = {name: value for name, value in params.items() if name in ("n_jobs", "device", "backend", "n_samples")}
    imputer.set_params(**running)
    return imputer


def _fingerprint(
    files: SourceFiles,
    model: str | None,
    ignore: Sequence[str],
    max_train_rows: int,
    random_state: int,
    params: dict[str, Any],
) -> dict[str, Any]:
    """What decides the result; a run goes on only where it is the same."""
    params = {name: value for name, value in params.items() if name not in WATCHING}
    options: dict[str, Any] = {"max_train_rows": max_train_rows, "random_state": random_state, "ignore": list(ignore)}
    options |= {name: repr(value) for name, value in sorted(params.items())}
    return {"format": FORMAT, "source": files.state(), "model": model, "options": options}
