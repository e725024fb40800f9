"""Arrow tables completed by a trained model: the unit of work of streams, Ray and Spark."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsae_fast.estimator import VSAEImputer
from vsae_fast.files import load, save

if TYPE_CHECKING:
    import pyarrow as pa

Model = VSAEImputer | str | os.PathLike[str]


class ImputeTable:
    """Callable that completes an Arrow table; goes through pickle with its model, so that workers need no file.

    The model is read when the first table comes, once in each process.

    Parameters
    ----------
    model : VSAEImputer or path
        Trained.
    ignore : sequence of str
        Columns to leave as they are.
    **params
        Of :class:`~vsae_fast.estimator.VSAEImputer`, for imputation, such as ``n_samples`` and ``n_jobs``.

    Examples
    --------
    With Ray Data, ``dataset.map_batches(ImputeTable("model"), batch_format="pyarrow")``, or
    :func:`vsae_fast.ray.impute_dataset`; with Spark, ``frame.mapInArrow(ImputeTable("model").batches, frame.schema)``.
    """

    def __init__(self, model: Model, *, ignore: Sequence[str] = (), **params: Any) -> None:
        self._model = model_bytes(model)
        self._ignore = tuple(ignore)
        self._params = params
        self._imputer: VSAEImputer | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_imputer": None}

    def __call__(self, table: pa.Table) -> pa.Table:
        """Completed table with the same schema."""
        return self.complete(table)[0]

    def complete(self, table: pa.Table) -> tuple[pa.Table, dict[str, int]]:
        """Completed table, and how many cells were filled in each column that had holes."""
        if self._imputer is None:
            self._imputer = _from_bytes(self._model).set_params(**self._params)
        return complete(self._imputer, table, self._ignore)

    def batches(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Completed record batches, one after the other: what Spark's ``mapInArrow`` calls."""
        import pyarrow as pa

        for batch in batches:
            yield from self(pa.Table.from_batches([batch])).to_batches()


def complete(imputer: VSAEImputer, table: pa.Table, ignore: Sequence[str]) -> tuple[pa.Table, dict[str, int]]:
    """Completed table, ignored columns in their places, and how many cells were filled in each column."""
    if table.num_rows == 0:
        return table, {}
    used = table.drop_columns(list(ignore)) if ignore else table
    counts = {name: count for name in used.column_names if (count := n_missing(used[name]))}
    completed = imputer.transform(used)
    return (with_ignored(table, completed) if ignore else completed), counts


def n_missing(column: pa.ChunkedArray) -> int:
    """Cells of a column that are null or NaN."""
    import pyarrow as pa
    import pyarrow.compute as pc

    count = int(column.null_count)
    if pa.types.is_floating(column.type):
        count += int(pc.sum(pc.is_nan(column)).as_py() or 0)
    return count


def with_ignored(whole: pa.Table, completed: pa.Table) -> pa.Table:
    """``whole`` with the columns of ``completed`` in their places, the others as they are."""
    for position, name in enumerate(whole.column_names):
        if name in completed.column_names:
            whole = whole.set_column(position, completed.schema.field(name), completed[name])
    return whole


def model_bytes(model: Model) -> bytes:
    """Content of a model's file."""
    if not isinstance(model, VSAEImputer):
        load(model)  # a wrong file shall be refused here, not by a worker
        return Path(model).read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        save(model, Path(folder) / "model")
        return (Path(folder) / "model").read_bytes()


def _from_bytes(content: bytes) -> VSAEImputer:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        path.write_bytes(content)
        return load(path)
