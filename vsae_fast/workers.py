"""Row groups given out to workers that may die; the same for the processes of this machine and for those of Ray."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from vsae_fast.impute_table import ImputeTable
from vsae_fast.parquet_parts import Part, Todo, write_part
from vsae_fast.parquet_source import ParquetFiles, UnreadableError

logger = logging.getLogger("vsae_fast")

IN_FLIGHT = 2  # row groups for each worker: the next one waits while one is at work
PATIENCE = 60.0  # seconds without an answer after which we say that no worker is up
MOST_DEATHS = 3  # of workers at one row group: the fourth would die too


class WorkerDiedError(Exception):
    """The worker that a future belongs to has died before it was finished."""


class GroupWorker:
    """Reads a row group, completes it and writes the part, all in its own process."""

    def __init__(self, files: ParquetFiles, table: ImputeTable, work: Path) -> None:
        self._files, self._table, self._work = files, table, work

    def ready(self) -> None:
        """Return once the worker is up."""

    def run(self, item: Todo) -> Part:
        """Deal with one row group."""
        try:
            table = self._files.read(item.file, item.group)
        except UnreadableError as error:
            return Part(item.name, "", {}, str(error))
        completed, filled = self._table.complete(table)
        sha256 = write_part(self._work / item.name, completed, self._files.compression(item.file))
        return Part(item.name, sha256, filled)


class Pool(Protocol):
    """Where workers live. A worker does one thing at a time, in the order in which it was asked."""

    def start(self, place: int) -> tuple[Hashable, Hashable]:
        """Start a worker in one of the places; return it, and the future of its being up."""

    def submit(self, worker: Any, item: Todo) -> Hashable:
        """Ask a worker for a row group; return the future of a :class:`Part`."""

    def wait(self, futures: Sequence[Any], seconds: float) -> Sequence[Any]:
        """Return futures that are finished, at least one, or none after so many seconds."""

    def result(self, future: Any) -> Part | None:
        """Return what a future holds, without waiting.

        Raises
        ------
        WorkerDiedError
        """

    def stop(self, worker: Any) -> None:
        """End a worker, dead or alive."""


def completed_by(pool: Pool, n_workers: int, files: ParquetFiles, todo: Sequence[Todo]) -> Iterator[Part]:
    """Row groups as workers finish them; those of a worker that dies go to the others.

    A worker gets row groups once it is up, so that one that waits for a processor holds nothing up.

    Parameters
    ----------
    pool : Pool
    n_workers : int
    files : ParquetFiles
        For messages.
    todo : sequence of Todo

    Raises
    ------
    RuntimeError
        Workers die at one row group, or as they start, again and again.
    """
    waiting, deaths = deque(todo), Counter[Todo | None]()
    places: dict[Any, int] = {}
    up: list[Any] = []
    pending: dict[Any, tuple[Any, Todo | None]] = {}  # None: the worker's start

    def start(place: int) -> None:
        worker, ready = pool.start(place)
        places[worker] = place
        pending[ready] = worker, None

    def hand_out() -> None:
        """Give every worker that is up as much as it may have in flight."""
        load = Counter(worker for worker, item in pending.values() if item is not None)
        for worker in sorted(up * IN_FLIGHT, key=lambda worker: load[worker]):
            if waiting and load[worker] < IN_FLIGHT:
                item = waiting.popleft()
                pending[pool.submit(worker, item)] = worker, item
                load[worker] += 1

    try:
        for place in range(n_workers):
            start(place)
        while waiting or any(item is not None for _, item in pending.values()):
            finished = pool.wait(list(pending), PATIENCE)
            if not finished:
                if not up:
                    logger.warning("no worker is up yet: is there a processor or a GPU left for one?")
                continue
            worker = pending[finished[0]][0]
            lost = []
            for future in _of_worker(pool, worker, finished[0], pending):
                item = pending.pop(future)[1]
                try:
                    part = pool.result(future)
                except WorkerDiedError:
                    lost.append(item)
                    continue
                if part is None:
                    up.append(worker)
                else:
                    yield part
            if lost:
                deaths[lost[0]] += 1  # what the worker was at; the others had only been on their way to it
                if deaths[lost[0]] == MOST_DEATHS:
                    raise RuntimeError(_fatal(lost[0], files))
                waiting.extendleft(item for item in reversed(lost) if item is not None)
                pool.stop(worker)
                up = [other for other in up if other is not worker]
                start(places.pop(worker))
            hand_out()
    finally:
        for worker in places:  # one that is still at work would write into a folder that is no longer ours
            pool.stop(worker)


def _of_worker(pool: Pool, worker: Any, finished: Any, pending: dict[Any, tuple[Any, Todo | None]]) -> list[Any]:
    """The finished future alone; all that its worker had, in the order in which it got it, where it has died."""
    try:
        pool.result(finished)
    except WorkerDiedError:
        return [future for future, (other, _) in pending.items() if other is worker]
    return [finished]


def _fatal(item: Todo | None, files: ParquetFiles) -> str:
    what = "loading the model" if item is None else f"row group {item.group} of {files.paths[item.file]}"
    return f"{what}: {MOST_DEATHS} workers died at it; give them more memory, or write the file with smaller row groups"
