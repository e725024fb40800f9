"""Many machines: Ray Data sets, and row groups of Parquet files, completed by workers that each load the model once.

Needs the extra ``ray``.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsae_fast.impute_table import ImputeTable, Model
from vsae_fast.parquet_parts import Part, Todo, write_part
from vsae_fast.parquet_source import ParquetFiles, UnreadableError

if TYPE_CHECKING:
    from ray.data import Dataset

logger = logging.getLogger("vsae_fast")

BATCH_ROWS = 16_384  # of Ray Data: what a worker holds at once
IN_FLIGHT = 2  # row groups for each worker: the next one waits while one is at work
PATIENCE = 60.0  # seconds without an answer after which we say that no worker is up
MOST_DEATHS = 3  # of workers at one row group: the fourth would die too


def impute_dataset(
    ds: Dataset,
    model: Model,
    *,
    concurrency: int | tuple[int, int] | None = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
    batch_rows: int = BATCH_ROWS,
    ignore: Sequence[str] = (),
    **params: Any,
) -> Dataset:
    """Complete a Ray Data set, lazily.

    Parameters
    ----------
    ds : ray.data.Dataset
    model : VSAEImputer or path
        Trained; travels to the workers, who need no file.
    concurrency : int or tuple of int, optional
        Workers, or the least and the most of them; as many as the cluster has processors where it is left out.
    num_cpus, num_gpus : float
        Of each worker. With ``num_gpus`` pass ``device="cuda"`` too.
    batch_rows : int
        Rows that a worker completes at once; memory follows it. Results do not depend on it.
    ignore : sequence of str
        Columns to leave as they are.
    **params
        Of :class:`~vsae_fast.estimator.VSAEImputer`, for imputation, such as ``n_samples``.

    Returns
    -------
    ray.data.Dataset
        With the same columns, in the same order of rows where the data set keeps it.

    Raises
    ------
    ModuleNotFoundError
        Ray is not installed.
    """
    ray = _ray()
    if concurrency is None:
        concurrency = _n_workers(ray, num_cpus)
    arguments = {"model": model, "ignore": ignore, "n_jobs": max(int(num_cpus), 1), **params}
    return ds.map_batches(
        _TableWorker,
        fn_constructor_args=(ImputeTable(**arguments),),
        batch_format="pyarrow",
        batch_size=batch_rows,
        concurrency=concurrency,
        num_cpus=num_cpus,
        num_gpus=num_gpus or None,
    )


class _TableWorker:
    """What Ray Data makes an actor of."""

    def __init__(self, table: ImputeTable) -> None:
        self._table = table

    def __call__(self, batch: Any) -> Any:
        return self._table(batch)


# ---- row groups of impute_parquet -----------------------------------------------------------------------------------


class _GroupWorker:
    """Reads a row group, completes it and writes the part, all on its own machine."""

    def __init__(self, files: ParquetFiles, table: ImputeTable, work: Path) -> None:
        self._files, self._table, self._work = files, table, work

    def ready(self) -> None:
        """Return once the worker is up."""

    def run(self, item: Todo) -> Part:
        try:
            table = self._files.read(item.file, item.group)
        except UnreadableError as error:
            return Part(item.name, "", {}, str(error))
        completed, filled = self._table.complete(table)
        sha256 = write_part(self._work / item.name, completed, self._files.compression(item.file))
        return Part(item.name, sha256, filled)


def completed_parts(
    files: ParquetFiles,
    table: ImputeTable,
    work: Path,
    todo: Sequence[Todo],
    *,
    address: str | None,
    concurrency: int | None,
) -> Iterator[Part]:
    """Row groups as workers finish them; those of a worker that dies go to the others.

    Parameters
    ----------
    files : ParquetFiles
    table : ImputeTable
    work : Path
        Folder for the parts, which all machines must see under this name, as they must the files.
    todo : sequence of Todo
    address : str or None
        Of the cluster; this machine alone, or the cluster that Ray is connected to, where it is None.
    concurrency : int or None
        Workers of one processor each; as many as there are processors where it is None.
    """
    with _connected(address) as ray:
        actor = ray.remote(_GroupWorker).options(num_cpus=1)
        arguments = files.absolute(), ray.put(table), work.resolve()
        n_workers = min(concurrency or _n_workers(ray, 1), max(len(todo), 1))
        waiting, deaths = deque(todo), Counter[Todo | None]()
        workers: list[Any] = []
        up: list[Any] = []  # workers that have a processor: others may wait for one without end
        pending: dict[Any, tuple[Any, Todo | None]] = {}  # None: the worker's start

        def start() -> None:
            workers.append(actor.remote(*arguments))
            pending[workers[-1].ready.remote()] = workers[-1], None

        def hand_out() -> None:
            """Give every worker that is up as much as it may have in flight."""
            load = Counter(worker for worker, item in pending.values() if item is not None)
            for worker in sorted(up * IN_FLIGHT, key=lambda worker: load[worker]):
                if waiting and load[worker] < IN_FLIGHT:
                    item = waiting.popleft()
                    pending[worker.run.remote(item)] = worker, item
                    load[worker] += 1

        try:
            for _ in range(n_workers):
                start()
            while waiting or any(item is not None for _, item in pending.values()):
                finished, _ = ray.wait(list(pending), num_returns=1, timeout=PATIENCE)
                if not finished:
                    if not up:
                        logger.warning("no worker has a processor yet: the Ray cluster is busy, or has none")
                    continue
                worker = pending[finished[0]][0]
                # Of a worker that has died all that it had comes back, and what it was at comes first.
                known = [ref for ref, (other, _) in pending.items() if other is worker]
                lost = []
                for ref in known if _is_dead(ray, finished[0]) else finished:
                    item = pending.pop(ref)[1]
                    try:
                        part = ray.get(ref, timeout=0)
                    except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
                        lost.append(item)
                    else:
                        if item is None:
                            up.append(worker)
                        else:
                            yield part
                if lost:
                    deaths[lost[0]] += 1
                    if deaths[lost[0]] == MOST_DEATHS:
                        raise RuntimeError(_fatal(lost[0], files))
                    waiting.extendleft(item for item in reversed(lost) if item is not None)
                    workers = [other for other in workers if other is not worker]
                    up = [other for other in up if other is not worker]
                    if not workers:
                        start()
                hand_out()
        finally:
            for worker in workers:  # one that is still at work would write into a folder that is no longer ours
                ray.kill(worker)


def _is_dead(ray: Any, ref: Any) -> bool:
    """Whether the worker of a finished call died at it."""
    try:
        ray.get(ref)
    except ray.exceptions.RayActorError:
        return True
    return False


def _fatal(item: Todo | None, files: ParquetFiles) -> str:
    what = "loading the model" if item is None else f"row group {item.group} of {files.paths[item.file]}"
    return f"{what}: {MOST_DEATHS} workers died at it; give them more memory, or write the file with smaller row groups"


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("this needs Ray; run: pip install 'vsae_fast[ray]'", name="ray") from error
    return ray


def _n_workers(ray: Any, num_cpus: float) -> int:
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    return max(int(ray.cluster_resources().get("CPU", 1) / max(num_cpus, 1)), 1)


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Ray, connected; a connection that was there before stays."""
    ray = _ray()
    ours = not ray.is_initialized()
    if not ours and address is not None:
        raise ValueError(f"Ray is connected already; leave address={address!r} out, or call ray.shutdown() first")
    if ours:
        try:
            ray.init(address=address, log_to_driver=False)
        except ConnectionError as error:
            raise ConnectionError(f"there is no Ray cluster at {address}; start one with: ray start --head") from error
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()
