"""Row groups completed by a process for each device of this machine."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch

from vsae_fast.estimator import VSAEImputer
from vsae_fast.impute_table import ImputeTable
from vsae_fast.parquet_parts import Part, Todo
from vsae_fast.parquet_source import ParquetFiles
from vsae_fast.workers import GroupWorker, WorkerDiedError, completed_by

_worker: GroupWorker | None = None  # of this process


def _begin(worker: GroupWorker, n_threads: int) -> None:
    global _worker
    _worker = worker
    torch.set_num_threads(n_threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed cannot end its workers."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _ready() -> None:
    assert _worker is not None


def _run(item: Todo) -> Part:
    assert _worker is not None
    return _worker.run(item)


class _Processes:
    """A pool of one process for each place: each may die alone."""

    def __init__(self, workers: Sequence[GroupWorker], n_threads: int) -> None:
        self._workers, self._n_threads = workers, n_threads

    def start(self, place: int) -> tuple[ProcessPoolExecutor, Future[None]]:
        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        arguments = self._workers[place], self._n_threads
        executor = ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=arguments)
        return executor, executor.submit(_ready)

    def submit(self, worker: ProcessPoolExecutor, item: Todo) -> Future[Part]:
        try:
            return worker.submit(_run, item)
        except BrokenProcessPool as error:  # it died since it was looked at
            failed: Future[Part] = Future()
            failed.set_exception(error)
            return failed

    def wait(self, futures: Sequence[Future[Part]], seconds: float) -> Sequence[Future[Part]]:
        return list(wait(futures, seconds, FIRST_COMPLETED).done)

    def result(self, future: Future[Part]) -> Part | None:
        try:
            return future.result(timeout=0)
        except (BrokenProcessPool, TimeoutError) as error:
            raise WorkerDiedError from error

    def stop(self, worker: ProcessPoolExecutor) -> None:
        worker.shutdown(cancel_futures=True)


def device_parts(
    files: ParquetFiles,
    imputer: VSAEImputer,
    ignore: Sequence[str],
    work: Path,
    todo: Sequence[Todo],
    *,
    devices: Sequence[str],
) -> Iterator[Part]:
    """Row groups as the processes finish them; those of a process that dies are done again.

    Parameters
    ----------
    files : ParquetFiles
    imputer : VSAEImputer
    ignore : sequence of str
        Columns to leave as they are.
    work : Path
        Folder for the parts.
    todo : sequence of Todo
    devices : sequence of str
        Of the processes. They share the threads of this one out among themselves.
    """
    n_threads = max(torch.get_num_threads() // len(devices), 1)
    workers = [
        GroupWorker(files, ImputeTable(imputer, ignore=ignore, device=device, n_jobs=n_threads), work)
        for device in devices
    ]
    yield from completed_by(_Processes(workers, n_threads), len(workers), files, todo)
