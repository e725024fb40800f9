import errno
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file

from tests.test_estimator import mixed_table
from vsae_fast import VSAEImputer
from vsae_fast.self_masking import SelfMasking

QUICK = {"epochs": 2, "n_samples": 20, "random_state": 0}


@pytest.fixture(scope="module")
def table():
    return mixed_table()


@pytest.fixture(scope="module")
def fitted(table):
    return VSAEImputer(**QUICK).fit(table)


@pytest.fixture
def path(tmp_path, fitted):
    path = tmp_path / "model.safetensors"
    fitted.save(path)
    return path


@pytest.mark.parametrize("preset", ["auto", "paper"])
def test_results_are_bit_identical_after_loading(tmp_path, table, preset):
    imputer = VSAEImputer(preset=preset, **QUICK).fit(table)
    imputer.save(tmp_path / "m")
    loaded = VSAEImputer.load(tmp_path / "m")
    pd.testing.assert_frame_equal(loaded.transform(table), imputer.transform(table), check_exact=True)
    assert str(loaded.schema_) == str(imputer.schema_)
    assert loaded.history_ == imputer.history_
    assert list(loaded.feature_names_in_) == list(table.columns)
    assert loaded.get_params() == {**imputer.get_params(), "random_state": None, "schema": None}
    np.testing.assert_array_equal(loaded.score_samples(table), imputer.score_samples(table))


def test_results_are_bit_identical_in_another_process(path, fitted, table, tmp_path):
    table.to_pickle(tmp_path / "table.pkl")
    code = (
        "import sys, pandas as pd, vsae_fast\n"
        "model, table, out = sys.argv[1:]\n"
        "vsae_fast.VSAEImputer.load(model).transform(pd.read_pickle(table)).to_pickle(out)\n"
    )
    out = tmp_path / "out.pkl"
    subprocess.run([sys.executable, "-c", code, path, tmp_path / "table.pkl", out], check=True, timeout=120)
    pd.testing.assert_frame_equal(pd.read_pickle(out), fitted.transform(table), check_exact=True)


def test_loading_leaves_the_global_generator_alone(path):
    state = torch.get_rng_state()
    VSAEImputer.load(path)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_imputer_without_a_model(tmp_path):
    X = np.array([[1.0, np.nan], [1.0, np.nan]])
    with pytest.warns(UserWarning, match="kept out of the model"):
        imputer = VSAEImputer(**QUICK).fit(X)
    imputer.save(tmp_path / "m")
    np.testing.assert_array_equal(VSAEImputer.load(tmp_path / "m").transform(X), [[1.0, 0.0], [1.0, 0.0]])


def test_existing_files_are_kept_unless_told(path, fitted):
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        fitted.save(path)
    assert path.read_bytes() == before
    fitted.save(path, overwrite=True)
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # no temporary file stays


def test_a_failed_save_leaves_no_file(tmp_path, table):
    odd = table.assign(raw=pd.Series([b"bytes", b"other"] * (len(table) // 2), dtype=object))
    imputer = VSAEImputer(**QUICK).fit(odd)
    with pytest.raises(ValueError, match="cannot be saved"):
        imputer.save(tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_loading_runs_no_code(path):
    """Everything is in safetensors and JSON; a pickle never is."""
    assert path.read_bytes()[8:9] == b"{"
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["vsae_fast"])
    assert header["version"] == 10
    assert header["package"]
    assert header["noise"].startswith("philox")


def rewrite(path, **changes):
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["vsae_fast"])
    save_file(tensors, path, {"vsae_fast": json.dumps({**header, **changes})})


def test_self_masking_of_format_4_is_normal(path):
    rewrite(path, version=4, self_masking={"0": [0.1, 1.2, 0.8, 0.4, -1.5]})
    (term,) = VSAEImputer.load(path).self_masking_.values()
    assert term == SelfMasking(0.1, 1.2, 0.8, 0.4, -1.5, skewness=0.0, tailweight=1.0)


def test_columns_of_format_5_have_no_times(path):
    before = VSAEImputer.load(path).schema_
    columns = [{key: value for key, value in asdict(c).items() if key not in ("step", "cell")} for c in before.columns]
    rewrite(path, version=5, schema=columns)
    assert VSAEImputer.load(path).schema_ == before


def test_ensembles_of_format_6_have_no_closed_form_member(path, table):
    rewrite(path, version=6, linear_shares=None)
    imputer = VSAEImputer.load(path)
    assert imputer.closed_form_ is None
    assert not imputer.transform(table).isna().any(axis=None)


def test_bad_files(path, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        VSAEImputer.load(tmp_path / "nowhere")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ValueError, match="not a vsae_fast model file"):
        VSAEImputer.load(tmp_path / "text")
    whole = path.read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="not a vsae_fast model file, or it is damaged"):
        VSAEImputer.load(tmp_path / "cut")
    save_file({"w": torch.ones(2)}, tmp_path / "other")
    with pytest.raises(ValueError, match="not one that vsae_fast wrote"):
        VSAEImputer.load(tmp_path / "other")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 99}, "upgrade vsae_fast"),
        ({"noise": "dice"}, "unknown noise scheme 'dice'"),
        ({"schema": []}, "is damaged"),
        ({"params": {"colour": "red"}}, "is damaged"),
        ({"n_models": 0}, "is damaged: 0 networks for 4 columns to be modelled"),
        ({"version": None}, "header of .* is damaged"),
    ],
)
def test_bad_headers(path, changes, message):
    rewrite(path, **changes)
    with pytest.raises(ValueError, match=message) as error:
        VSAEImputer.load(path)
    assert "\n" not in str(error.value)


def test_an_altered_network_is_noticed(path):
    whole = bytearray(path.read_bytes())
    whole[-5] ^= 1
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="was altered after it was written") as error:
        VSAEImputer.load(path)
    assert "\n" not in str(error.value)


def test_a_full_disk_leaves_the_file_that_was_there(path, fitted, monkeypatch):
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("vsae_fast.files.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        fitted.save(path, overwrite=True)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_file_of_the_first_format_loads():
    """Written by the code of commit e239a2e: two epochs on columns a (numbers), n (integers) and k (text)."""
    imputer = VSAEImputer.load(Path(__file__).parent / "data" / "model_format_1.safetensors")
    probe = pd.DataFrame({"a": [0.5, np.nan, np.nan], "n": [np.nan, -4.0, np.nan], "k": ["up", None, None]})
    result = imputer.transform(probe)
    np.testing.assert_allclose(result["a"], [0.5, 0.049225721615758736, 0.050506209037458845], rtol=1e-4)
    assert result["k"].tolist() == ["up", "down", "down"]
    evidence = [-4.245561161463131, -3.6843768321868975, -2.2671436525488695]
    np.testing.assert_allclose(imputer.score_samples(probe), evidence, rtol=1e-4)
    assert imputer.n_iter_ == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_file_written_on_one_device_loads_on_the_other(tmp_path, table):
    on_cpu = VSAEImputer(**QUICK).fit(table)
    on_cpu.save(tmp_path / "cpu")
    on_gpu = VSAEImputer.load(tmp_path / "cpu").set_params(device="cuda")
    expected = on_cpu.transform(table)
    np.testing.assert_allclose(on_gpu.transform(table)[["a", "b"]], expected[["a", "b"]], rtol=1e-4, atol=1e-4)
    trained = VSAEImputer(device="cuda", **QUICK).fit(table)
    trained.save(tmp_path / "gpu")
    back = VSAEImputer.load(tmp_path / "gpu").set_params(device="cpu").transform(table)
    np.testing.assert_allclose(back[["a", "b"]], trained.transform(table)[["a", "b"]], rtol=1e-4, atol=1e-4)
