"""What is fuzzed. A target may refuse its input with a one-line ValueError, TypeError or OSError, and no other way."""

from __future__ import annotations

import contextlib
import io
import math
import tempfile
import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from hypothesis import strategies as st

from tests.random_models import random_decoders, random_rows
from vsae_fast import VSAEImputer, describe_schema
from vsae_fast.cli.table_file import read_file
from vsae_fast.ops.elbo import elbo
from vsae_fast.ops.importance_impute import importance_impute
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.parquet_source import ParquetFiles, find_files
from vsae_fast.text_source import find_text, to_parquet

QUICK = {"epochs": 1, "n_models": 1, "n_samples": 5, "random_state": 0}


@contextlib.contextmanager
def refusal(kinds=(ValueError, TypeError, OSError)):
    """Let the input be refused, in one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except kinds as error:
            lines = str(error).strip().splitlines()
            if len(lines) != 1:
                raise AssertionError(f"{type(error).__name__} of {len(lines)} lines: {error}") from error


# ---- mutated bytes --------------------------------------------------------------------------------------------------


@st.composite
def mutated(draw, original):
    """Bytes with a few places changed, cut out, doubled or cut off."""
    data = bytearray(original())
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        length = draw(st.sampled_from([1, 1, 2, 8, 64, 1000]))
        kind = draw(st.sampled_from(["set", "flip", "cut", "double", "end"]))
        if kind == "set":
            new = draw(st.binary(min_size=length, max_size=length) if length < 64 else st.just(b"\xff" * length))
            data[at : at + length] = new
        elif kind == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[at : at + length]
        elif kind == "double":
            data[at:at] = data[at : at + length]
        elif draw(st.integers(0, 3)) == 0:
            del data[at:]
    return bytes(data)


@lru_cache(maxsize=1)
def small_table():
    rng = np.random.default_rng(0)
    return pa.table(
        {
            "a": pa.array(rng.normal(size=40), mask=rng.random(40) < 0.3),
            "n": pa.array(rng.integers(0, 9, 40), mask=rng.random(40) < 0.3),
            "k": pa.array(rng.choice(["up", "down", "ü"], 40), mask=rng.random(40) < 0.3),
        }
    )


@lru_cache(maxsize=1)
def model_bytes():
    with tempfile.TemporaryDirectory() as folder:
        VSAEImputer(**QUICK).fit(small_table()).save(Path(folder) / "m")
        return (Path(folder) / "m").read_bytes()


@lru_cache(maxsize=1)
def parquet_bytes():
    sink = io.BytesIO()
    pq.write_table(small_table(), sink, row_group_size=15)
    return sink.getvalue()


@lru_cache(maxsize=1)
def csv_bytes():
    rows = zip(*(column.to_pylist() for column in small_table().columns), strict=True)
    lines = ["a,n,k", *(",".join("" if v is None else f'"{v}"' if v == "up" else str(v) for v in row) for row in rows)]
    return "\n".join(lines).encode()


def in_folder(name, data, work):
    """Run ``work`` on a file of these bytes; nothing else may appear beside it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        work(path)
        assert [p.name for p in Path(folder).iterdir()] == [name]
        assert path.read_bytes() == data


def model_file(data):
    """A model file from someone else's hands: refused, or one that imputes."""

    def work(path):
        with refusal():
            imputer = VSAEImputer.load(path)
            table, names = small_table(), list(imputer.feature_names_in_)
            # A model of columns of other names is whole: scikit-learn refuses this table, in several lines.
            completed = imputer.transform(table.rename_columns(names) if len(names) == table.num_columns else table)
            assert completed.num_rows == 40

    in_folder("m", data, work)


def parquet_file(data):
    """A Parquet file: refused, or row groups that are read or refused one by one."""

    def work(path):
        with refusal():
            files: ParquetFiles = find_files(path)
            for group in range(min(files.n_row_groups[0], 20)):
                with refusal():
                    table = files.read(0, group)
                    describe_schema(table)

    in_folder("x.parquet", data, work)


def csv_file(data):
    """A text file: refused, or a table, at once and as a stream."""

    def work(path):
        with refusal():
            describe_schema(read_file(path).values)
        with refusal(), tempfile.TemporaryDirectory() as folder:
            files = to_parquet(find_text(path), Path(folder))
            assert files.read(0, 0).num_rows > 0

    in_folder("x.csv", data, work)


# ---- tables ---------------------------------------------------------------------------------------------------------

NUMBERS = st.floats(width=64) | st.sampled_from([0.0, -0.0, 5e-324, 1e-310, 1e308, -1e308, math.inf, math.nan])
CELLS = st.one_of(
    st.none(), NUMBERS, st.integers(-(2**70), 2**70), st.booleans(), st.text(max_size=5), st.binary(max_size=3),
    st.complex_numbers(), st.dates(), st.lists(st.integers(), max_size=2),
)  # fmt: skip


@st.composite
def columns(draw, n_rows):
    kind = draw(st.sampled_from(["numbers", "anything", "text", "few", "constant"]))
    if kind == "numbers":
        return draw(st.lists(NUMBERS, min_size=n_rows, max_size=n_rows))
    if kind == "text":
        return draw(st.lists(st.none() | st.text(max_size=3), min_size=n_rows, max_size=n_rows))
    if kind == "few":
        return draw(st.lists(st.sampled_from([1, 2, None, "1", 1.0, True]), min_size=n_rows, max_size=n_rows))
    if kind == "constant":
        return [draw(CELLS)] * n_rows
    return draw(st.lists(CELLS, min_size=n_rows, max_size=n_rows))


@st.composite
def tables(draw):
    """Arrays of objects, lists of rows, dicts of columns or blocks."""
    n_rows, n_columns = draw(st.integers(0, 8)), draw(st.integers(0, 4))
    parts = [draw(columns(n_rows)) for _ in range(n_columns)]
    form = draw(st.sampled_from(["array", "rows", "dict", "ragged"]))
    if form == "array":
        array = np.empty((n_rows, n_columns), dtype=object)
        for j, part in enumerate(parts):
            for i, value in enumerate(part):
                array[i, j] = value
        return array
    if form == "dict":
        made = {f"c{j}": part for j, part in enumerate(parts)}
        if draw(st.booleans()):
            shape = (n_rows, *draw(st.lists(st.integers(0, 3), min_size=1, max_size=2)))
            made["block"] = np.full(shape, draw(NUMBERS))
        return made
    rows = [list(row) for row in zip(*parts, strict=True)]
    if form == "ragged" and rows:
        rows[-1] = rows[-1][:-1]
    return rows


def schema(table):
    """Any table: described, or refused; what is described can be imputed."""
    with refusal():
        found = describe_schema(table)
        str(found)
        completed = VSAEImputer(**QUICK).fit_transform(table)
        assert completed is not None


# ---- kernels --------------------------------------------------------------------------------------------------------

HOSTILE = st.sampled_from([0.0, 1.0, -1.0, 1e-40, -1e-40, 1e30, -1e30, 3e38, math.inf, -math.inf, math.nan])


@st.composite
def kernel_inputs(draw):
    kinds = draw(st.lists(st.sampled_from(["numerical", "categorical"]), min_size=1, max_size=6))
    widths = [draw(st.integers(1, 5)) for _ in kinds]
    layout = AttributeLayout(tuple(kinds), tuple(widths))
    n_rows, n_samples = draw(st.integers(0, 70)), draw(st.integers(1, 70))
    seed = draw(st.integers(0, 2**20))
    places = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10_000), HOSTILE), max_size=5))
    form = draw(st.sampled_from(["plain", "strided", "shifted", "transposed", "wrong shape", "double"]))
    return layout, n_rows, n_samples, seed, places, form


def reshaped(tensor, form):
    """The same values laid out otherwise, or something that must be refused."""
    if form == "strided":
        return torch.stack([tensor, tensor], -1)[..., 0]
    if form == "shifted":
        return torch.cat([tensor.new_zeros(1), tensor.flatten()])[1:].view(tensor.shape)
    if form == "transposed":
        return tensor.t().contiguous().t()
    if form == "wrong shape":
        return tensor[:, :-1]
    return tensor.double() if form == "double" else tensor


def kernels(inputs):
    """importance_impute and elbo: no crash; where everything is finite, what the reference computes."""
    layout, n_rows, n_samples, seed, places, form = inputs
    generator = torch.Generator().manual_seed(seed)
    decoders = random_decoders(layout, generator, mask_widths=(5,), data_widths=(9,)).to(
        torch.float32, torch.device("cpu")
    )
    n_latent = decoders.n_latent
    mean, scale = (torch.randn(n_rows, n_latent, generator=generator) for _ in range(2))
    scale = scale.abs() + 0.1
    x, mask = (part.float() for part in random_rows(layout, n_rows, generator))
    noise = torch.randn(n_samples, n_latent, generator=generator)
    for which, at, value in places:
        target = (mean, scale, x, noise)[which]
        if target.numel():
            target.view(-1)[at % target.numel()] = value
    observed = reshaped(x, form)
    with refusal((ValueError,)):
        result = importance_impute(mean, scale, observed, mask, noise, decoders, backend="cpu")
        assert result.imputed.shape == x.shape
        seen = layout.expand(mask) > 0
        assert torch.equal(result.imputed[seen].isnan(), x[seen].isnan())
        if not places:
            exact = importance_impute(mean, scale, x, mask, noise, decoders, backend="reference")
            torch.testing.assert_close(result.imputed, exact.imputed, rtol=1e-2, atol=1e-2)
    with refusal((ValueError,)):
        output = torch.randn(n_rows, layout.n_columns, generator=generator)
        bound = elbo(
            output, decoders.log_scale, torch.zeros_like(mask), observed, mask, mean, 2 * scale.log(), layout,
            attribute_weight=mask, backend="cpu",
        )  # fmt: skip
        assert bound.shape == (n_rows,)


# What is always tried first: what once failed, and what attackers begin with.
SEEDS = {
    "model_file": [
        lambda: b"",
        lambda: (2**60).to_bytes(8, "little") + b"{}",  # a header longer than any memory
        lambda: model_bytes()[:100],
        lambda: model_bytes()[:-1],
        lambda: model_bytes().replace(b'"numerical"', b'"numerikal"'),
        lambda: model_bytes().replace(b"F32", b"F64"),
        lambda: b"PK\x03\x04" + bytes(100),  # what torch.load would unpickle
    ],
    "parquet_file": [lambda: b"", lambda: b"PAR1", lambda: b"PAR1" + bytes(20) + b"PAR1", lambda: parquet_bytes()[4:]],
    "csv_file": [lambda: b"", lambda: b"\n", lambda: b"a,b", lambda: b"\xff\xfe\x00", lambda: b'a,b\n"', csv_bytes],
    "schema": [lambda: [], lambda: {}, lambda: [[]], lambda: {"c0": [float("nan")] * 3}, lambda: {"c": "text"}],
    "kernels": [
        lambda: (AttributeLayout(("numerical",), (1,)), 0, 1, 0, [], "plain"),
        lambda: (AttributeLayout(("categorical",), (3,)), 5, 70, 1, [(2, 0, math.nan)], "plain"),
        lambda: (AttributeLayout(("numerical", "categorical"), (5, 1)), 69, 1, 2, [], "transposed"),
    ],
}
TARGETS = {
    "model_file": (model_file, mutated(model_bytes)),
    "parquet_file": (parquet_file, mutated(parquet_bytes)),
    "csv_file": (csv_file, mutated(csv_bytes) | st.binary(max_size=200)),
    "schema": (schema, tables()),
    "kernels": (kernels, kernel_inputs()),
}
