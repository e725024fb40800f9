"""Many machines: Ray Data sets and row groups of Parquet files completed and networks trained by a cluster.

Needs the extra ``ray``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vsae_fast.ensemble_training import NetworkTraining, TrainElsewhere
from vsae_fast.estimator import VSAEImputer
from vsae_fast.impute_table import ImputeTable, Model
from vsae_fast.parquet_parts import Part, Todo
from vsae_fast.parquet_source import ParquetFiles
from vsae_fast.training import History
from vsae_fast.workers import GroupWorker, WorkerDiedError, completed_by

if TYPE_CHECKING:
    from ray.data import Dataset

BATCH_ROWS = 16_384  # of Ray Data: what a worker holds at once


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


# ---- training -------------------------------------------------------------------------------------------------------


def fit(
    imputer: VSAEImputer, X: Any, mask: Any = None, *, address: str | None = None, num_cpus: float = 1
) -> VSAEImputer:
    """Train an imputer's networks on a Ray cluster, all of them at once.

    The networks are those of ``imputer.fit(X, mask=mask)``, to the last bit where all processors have the same
    instructions. The encoded table is sent to every machine once, and a network whose machine is lost is trained anew.

    Parameters
    ----------
    imputer : VSAEImputer
        Fitted in place. Callbacks hear of a network's epochs when it is back, and cannot end its training.
    X : table, shape (N, columns)
    mask : array or frame of bool or 0/1, shape (N, columns), optional
        1 = observed.
    address : str, optional
        Of the cluster; the one that Ray is connected to, or this machine alone, where it is left out.
    num_cpus : float
        Processors of each network's training.

    Returns
    -------
    VSAEImputer
        ``imputer``.

    Raises
    ------
    ModuleNotFoundError
        Ray is not installed.
    ValueError
        An imputer with ``checkpoint_dir``, which only a training on one machine has, or on a GPU.
    """
    if imputer.checkpoint_dir is not None:
        raise ValueError("checkpoint_dir is for trainings on one machine; set it to None")
    if imputer.device not in ("auto", "cpu"):
        raise ValueError(f"networks are trained on processors here; use device='cpu', not {imputer.device!r}")
    with _connected(address) as ray:

        def elsewhere(x: torch.Tensor, mask: torch.Tensor) -> TrainElsewhere:
            task = ray.remote(_train).options(num_cpus=num_cpus)
            # Arrays are read from shared memory; tensors would be copied by every task.
            rows = ray.put(x.numpy()), ray.put(mask.numpy())

            def train(own: NetworkTraining, max_seconds: float) -> tuple[dict[str, torch.Tensor], History]:
                found: tuple[dict[str, torch.Tensor], History]
                found = ray.get(task.remote(own, *rows, max_seconds, max(int(num_cpus), 1)))
                return found

            return train

        imputer._fit(X, mask, elsewhere)
    return imputer


def _train(
    own: NetworkTraining, x: Any, mask: Any, max_seconds: float, n_threads: int
) -> tuple[dict[str, torch.Tensor], History]:
    torch.set_num_threads(n_threads)
    rows = torch.from_numpy(np.array(x)), torch.from_numpy(np.array(mask))  # Ray's own are read-only
    history = own.run(*rows, max_seconds=max_seconds, n_threads=n_threads)
    return own.model.state_dict(), history


# ---- row groups of impute_parquet -----------------------------------------------------------------------------------


class _Actors:
    """A pool of actors of one processor each, wherever the cluster has one."""

    def __init__(self, ray: Any, *arguments: Any) -> None:
        self._ray, self._arguments = ray, arguments
        self._actor = ray.remote(GroupWorker).options(num_cpus=1)

    def start(self, place: int) -> tuple[Any, Any]:
        del place  # Ray finds one
        worker = self._actor.remote(*self._arguments)
        return worker, worker.ready.remote()

    def submit(self, worker: Any, item: Todo) -> Any:
        return worker.run.remote(item)

    def wait(self, futures: Sequence[Any], seconds: float) -> Sequence[Any]:
        finished: Sequence[Any] = self._ray.wait(list(futures), num_returns=1, timeout=seconds)[0]
        return finished

    def result(self, future: Any) -> Part | None:
        try:
            part: Part | None = self._ray.get(future, timeout=0)
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.GetTimeoutError) as error:
            raise WorkerDiedError from error
        return part

    def stop(self, worker: Any) -> None:
        self._ray.kill(worker)


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
        n_workers = min(concurrency or _n_workers(ray, 1), max(len(todo), 1))
        pool = _Actors(ray, files.absolute(), ray.put(table), work.resolve())
        yield from completed_by(pool, n_workers, files, todo)


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
