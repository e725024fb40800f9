"""Parquet files larger than memory: completed row group by row group, and taken up again where a run was cut off.

Every finished row group is a file of its own in a work folder beside the target, written under a temporary name, synced
and renamed; a log says which are done, with their checksums. A run that is started again does the rest and ends with
the same bytes as one that was never cut off.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vsae_fast.estimator import VSAEImputer
from vsae_fast.files import load, save
from vsae_fast.parquet_source import ParquetFiles, UnreadableError, find_files, sample_rows
from vsae_fast.table.containers import read_table
from vsae_fast.table.mask import observed_cells
from vsae_fast.whole_file import whole_file

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1  # of the work folder
MAX_TRAIN_ROWS = 100_000
MODEL, LOCK = "model.safetensors", "lock"  # in the work folder
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
    model: VSAEImputer | str | os.PathLike[str] | None = None,
    *,
    ignore: Sequence[str] = (),
    max_train_rows: int = MAX_TRAIN_ROWS,
    random_state: int = 0,
    overwrite: bool = False,
    restart: bool = False,
    on_error: str = "raise",
    progress: Progress | None = None,
    **params: Any,
) -> StreamReport:
    """Complete Parquet files of any size; memory follows the largest row group and the rows that are trained on.

    Reading, computing and writing overlap. Row order, row groups, schema, metadata, compression and the folders of a
    partitioned data set are kept.

    Parameters
    ----------
    source : path
        A file, a folder of ``.parquet`` files at any depth, or a pattern such as ``"data/2024-*.parquet"``.
    target : path
        A file where ``source`` is one, else a folder, whose files are named as the source's.
    model : VSAEImputer or path, optional
        Trained; where it is left out, one is trained on a random sample of the rows.
    ignore : sequence of str
        Columns to leave as they are: dates, identifiers, notes.
    max_train_rows : int
        Size of that sample. Levels that it lacks are left as they are.
    random_state : int
        Decides the sample and the training.
    overwrite : bool
        Whether existing target files may be replaced.
    restart : bool
        Throw away what an unfinished run left, instead of going on with it.
    on_error : {"raise", "skip"}
        What to do about files and row groups that cannot be read: stop at the first, or leave them out of the target
        and name them in the report.
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
    if on_error not in ("raise", "skip"):
        raise ValueError(f"unknown on_error {on_error!r}; use 'raise' or 'skip'")
    skip = on_error == "skip"
    files = find_files(Path(source), skip_unreadable=skip)
    _check_ignored(files, ignore)
    out = Path(target)
    targets = [out if files.single else out / relative for relative in files.relative]
    work = out.parent / f".{out.name}.vsae_fast"
    _check_target(files, out, targets, overwrite or work.exists())
    work.mkdir(parents=True, exist_ok=True)
    with _only_run(work):
        if restart:
            for path in work.iterdir():
                if path.name != LOCK:
                    path.unlink()
        try:
            options = {**params, "on_error": on_error} if skip else params
            given = _given(model, work)
            log = _Log(work, _fingerprint(files, given, ignore, max_train_rows, random_state, options))
            imputer = _model(work, files, model, ignore, max_train_rows, random_state, params, skip)
        except BaseException:
            if not (work / MODEL).exists():  # nothing that a further run could go on with
                shutil.rmtree(work)
            raise
        log.check_model(work / MODEL)
        resumed = len(log.parts)
        rows = _run(files, targets, imputer, ignore, work, log, progress, skip)
    shutil.rmtree(work)
    n_groups = sum(files.n_row_groups) - len(log.skipped)
    skipped = [*files.unreadable, *log.skipped.values()]
    return StreamReport(len(targets), n_groups, rows, resumed, dict(log.filled()), time.perf_counter() - begin, skipped)


# ---- one run --------------------------------------------------------------------------------------------------------


def _run(
    files: ParquetFiles,
    targets: Sequence[Path],
    imputer: VSAEImputer,
    ignore: Sequence[str],
    work: Path,
    log: _Log,
    progress: Progress | None,
    skip: bool,
) -> int:
    """Do what is not done yet: read ahead in one thread, write behind in another; return the target's rows."""
    known = {*log.parts, *log.skipped}
    todo = [(f, g) for f, n in enumerate(files.n_row_groups) for g in range(n) if _part(f, g) not in known]
    done, total = len(known), sum(files.n_row_groups)
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        ahead: Future[pa.Table] | None = reader.submit(files.read, *todo[0]) if todo else None
        behind: Future[None] | None = None
        try:
            for i, (file, group) in enumerate(todo):
                assert ahead is not None
                current = ahead
                ahead = reader.submit(files.read, *todo[i + 1]) if i + 1 < len(todo) else None
                if behind is not None:
                    behind.result()
                    behind = None
                try:
                    table = current.result()
                except UnreadableError as error:
                    if not skip:
                        raise
                    log.skip(_part(file, group), str(error))
                else:
                    completed, filled = _complete(imputer, table, ignore)
                    behind = writer.submit(log.commit, _part(file, group), completed, files.compression(file), filled)
                done += 1
                if progress is not None:
                    progress(done, total)
            if behind is not None:
                behind.result()
        finally:
            if ahead is not None:
                ahead.cancel()
    for file, path in enumerate(targets):
        if not log.finished(file) or not path.exists():
            names = [_part(file, group) for group in range(files.n_row_groups[file])]
            parts = [work / name for name in names if name in log.parts]
            _assemble(parts, path, work, files.schema, files.compression(file))
            log.finish(file)
    lost = sum(files.group_rows(f)[g] for f, n in enumerate(files.n_row_groups) for g in range(n)
               if _part(f, g) in log.skipped)  # fmt: skip
    return sum(files.n_rows) - lost


def _complete(imputer: VSAEImputer, table: pa.Table, ignore: Sequence[str]) -> tuple[pa.Table, dict[str, int]]:
    """Completed row group, ignored columns in their places, and how many cells were filled in each column."""
    if table.num_rows == 0:
        return table, {}
    used = table.drop_columns(list(ignore)) if ignore else table
    missing = ~observed_cells(read_table(used), None)
    counts = {name: int(count) for name, count in zip(used.column_names, missing.sum(axis=0), strict=True) if count}
    completed = imputer.transform(used)
    return (with_ignored(table, completed) if ignore else completed), counts


def with_ignored(whole: pa.Table, completed: pa.Table) -> pa.Table:
    """``whole`` with the columns of ``completed`` in their places, the others as they are."""
    for position, name in enumerate(whole.column_names):
        if name in completed.column_names:
            whole = whole.set_column(position, completed.schema.field(name), completed[name])
    return whole


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
    model: VSAEImputer | str | os.PathLike[str] | None,
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
            sample = sample_rows(files, max_train_rows, np.random.default_rng(random_state), skip_unreadable=skip)
            sample = sample.drop_columns(list(ignore)) if ignore else sample
            fitted = VSAEImputer(random_state=random_state, **params).fit(sample)
        else:
            fitted = model if isinstance(model, VSAEImputer) else load(model)
        save(fitted, kept)
    imputer: VSAEImputer = load(kept)
    running = {name: value for name, value in params.items() if name in ("n_jobs", "device", "backend", "n_samples")}
    imputer.set_params(**running)
    return imputer


def _check_ignored(files: ParquetFiles, ignore: Sequence[str]) -> None:
    names = files.schema.names
    for name in ignore:
        if name not in names:
            raise ValueError(f"ignore names {name!r}, but {files.paths[0]} has no such column; it has {names[:10]}")
    if set(names) <= set(ignore):
        raise ValueError("every column is ignored; leave one")
    dates = [name for name in names if name not in ignore and files.is_temporal(name)]
    if dates:
        raise ValueError(
            f"column {dates[0]!r} holds dates or times; pass ignore=[{dates[0]!r}] to leave it as it is, or turn it "
            "into numbers first"
        )


def _check_target(files: ParquetFiles, out: Path, targets: Sequence[Path], overwrite: bool) -> None:
    if files.single and out.is_dir():
        raise ValueError(f"{out} is a folder and the source is one file; name a file in it")
    if not files.single and out.is_file():
        raise FileExistsError(f"{out} is a file and the source is several; name a folder")
    sources = {path.resolve() for path in files.paths}
    inside = files.root is not None and files.root.resolve() in (out.resolve(), *out.resolve().parents)
    if inside or any(path.resolve() in sources for path in targets):
        raise ValueError(f"{out} lies in the source; choose another target")
    existing = [path for path in targets if path.exists()]
    if existing and not overwrite:
        raise FileExistsError(f"{existing[0]} exists; pass overwrite=True to replace it")


# ---- what is done ---------------------------------------------------------------------------------------------------


def _part(file: int, group: int) -> str:
    return f"{file:06}-{group:06}.parquet"


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _given(model: VSAEImputer | str | os.PathLike[str] | None, work: Path) -> str | None:
    """Checksum of the caller's model."""
    if model is None:
        return None
    if not isinstance(model, VSAEImputer):
        return _digest(Path(model))
    temporary = work / "given.tmp"
    save(model, temporary, overwrite=True)
    digest = _digest(temporary)
    temporary.unlink()
    return digest


def _fingerprint(
    files: ParquetFiles,
    model: str | None,
    ignore: Sequence[str],
    max_train_rows: int,
    random_state: int,
    params: dict[str, Any],
) -> dict[str, Any]:
    """What decides the result; a run goes on only where it is the same."""
    options: dict[str, Any] = {"max_train_rows": max_train_rows, "random_state": random_state, "ignore": list(ignore)}
    options |= {name: repr(value) for name, value in sorted(params.items())}
    return {"format": FORMAT, "source": files.state(), "model": model, "options": options}


class _Log:
    """Which parts are done: a line each, with a checksum; the first line says of what run.

    Parameters
    ----------
    work : Path
    fingerprint : dict
    """

    def __init__(self, work: Path, fingerprint: dict[str, Any]) -> None:
        self._work, self._path = work, work / "done.jsonl"
        self.parts: dict[str, dict[str, int]] = {}
        self.skipped: dict[str, str] = {}  # part to what was wrong with it
        self._finished: set[int] = set()
        lines = self._lines()
        if not lines:
            self._append(fingerprint)
            return
        for name in ("format", "source", "model", "options"):
            if lines[0].get(name) != json.loads(json.dumps(fingerprint[name])):
                raise ValueError(
                    f"an unfinished run on this target had another {name}; pass restart=True to begin anew, or call "
                    "it as before to go on"
                )
        for line in lines[1:]:
            if "file" in line:
                self._finished.add(line["file"])
            elif "skipped" in line:
                self.skipped[line["skipped"]] = line["reason"]
            elif "part" in line:
                path = work / line["part"]
                if path.exists() and _digest(path) == line["sha256"]:
                    self.parts[line["part"]] = line["filled"]

    def _lines(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        lines = []
        for text in self._path.read_text().splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                break  # cut off in the middle of a line
        return lines

    def _append(self, line: dict[str, Any]) -> None:
        with self._path.open("a") as file:
            if file.tell() and not self._path.read_bytes().endswith(b"\n"):
                file.write("\n")
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def check_model(self, path: Path) -> None:
        """Remember the model's checksum, or raise ValueError where it is not the one that the parts came from."""
        digest = _digest(path)
        known = [line["network"] for line in self._lines() if "network" in line]
        if known and known[0] != digest:
            raise ValueError("the model of the unfinished run was altered; pass restart=True to begin anew")
        if not known:
            self._append({"network": digest})

    def commit(self, name: str, table: pa.Table, compression: dict[str, str], filled: dict[str, int]) -> None:
        """Write a part and say that it is done."""
        import pyarrow.parquet as pq

        path = self._work / name
        with whole_file(path) as temporary:
            pq.write_table(table, temporary, compression=compression, row_group_size=max(table.num_rows, 1))
        self._append({"part": name, "sha256": _digest(path), "filled": filled})
        self.parts[name] = filled

    def skip(self, name: str, reason: str) -> None:
        """Say that a part cannot be done."""
        self._append({"skipped": name, "reason": reason})
        self.skipped[name] = reason

    def finish(self, file: int) -> None:
        """Say that a target file is in its place."""
        self._append({"file": file})
        self._finished.add(file)

    def finished(self, file: int) -> bool:
        """Whether a target file is in its place."""
        return file in self._finished

    def filled(self) -> Counter[str]:
        """Cells filled, by column."""
        total: Counter[str] = Counter()
        for counts in self.parts.values():
            total.update(counts)
        return total


@contextmanager
def _only_run(work: Path) -> Iterator[None]:
    """Hold the lock of the work folder; the system lets go of it when the process ends, however it ends.

    Raises
    ------
    BlockingIOError
        Another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    with (work / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BlockingIOError(f"another run is at work in {work}; wait for it or stop it") from error
        yield
