"""A few inputs of every fuzzing target; `make fuzz` tries many more."""

import gzip

import pytest

from tests.fuzz.__main__ import fuzz
from tests.fuzz.targets import SEEDS, TARGETS, refusal
from vsae_fast.cli import table_file


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_a_few_inputs(name):
    assert fuzz(name, 0, max_examples=40) >= len(SEEDS[name]) + 10


def test_refusals_must_be_of_one_line_and_of_a_known_kind():
    with pytest.raises(AssertionError, match="ValueError of 2 lines"), refusal():
        raise ValueError("one\ntwo")
    with pytest.raises(AssertionError, match="ValueError of 0 lines"), refusal():
        raise ValueError
    with pytest.raises(ZeroDivisionError), refusal():
        1 / 0  # noqa: B018


def test_a_zipped_table_that_expands_without_end_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 100_000))
    assert table_file.read_file(path).values.num_rows == 100_000
    monkeypatch.setattr(table_file, "LEAST_EXPANDED", 1000)
    monkeypatch.setattr(table_file, "MOST_EXPANSION", 20)
    with pytest.raises(ValueError, match=r"expands to more than 20 times its size.*unzip it"):
        table_file.read_file(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"bomb\.csv\.gz cannot be read as csv"):
        table_file.read_file(path)
