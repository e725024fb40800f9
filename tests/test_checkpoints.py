"""Trainings that are cut off and go on: the same losses and networks, bit for bit, as one that never was."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.random_models import MIXED, random_rows
from tests.test_estimator import mixed_table
from vsae_fast import VSAEImputer, checkpoints, impute_parquet
from vsae_fast.checkpoints import Checkpoint
from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.vsae import VSAE
from vsae_fast.objective import HideAndScore, TwoPhase
from vsae_fast.parquet_parts import digest
from vsae_fast.training import TrainingPlan, train

QUICK = {"epochs": 4, "n_models": 2, "n_samples": 20, "random_state": 0}
PLAN = TrainingPlan(epochs=6, schedule="one-cycle", weight_decay=0.1, clip_norm=5.0)


class CutOffError(Exception):
    """Stands for a power cut."""


@pytest.fixture(autouse=True)
def every_epoch(monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)


@pytest.fixture(scope="module")
def table():
    return mixed_table(200)


def train_once(objective, backend, checkpoint=None, cut_after=None):
    torch.manual_seed(0)
    model = VSAE(MIXED, NetworkConfig())
    x, mask = random_rows(MIXED, 150, torch.Generator().manual_seed(1))

    def progress(epoch, loss, score):
        if epoch == cut_after:
            raise CutOffError
        return False

    generator = torch.Generator().manual_seed(2)
    history = train(
        model, x.float(), mask.float(), objective, PLAN, generator, progress, backend, checkpoint=checkpoint
    )
    return model, history


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("objective", [TwoPhase(warmup_epochs=3, n_unobserved_samples=5), HideAndScore()])
@pytest.mark.parametrize("cuts", [(1,), (2, 4), (4,)])
def test_training_goes_on_where_it_was_cut_off(objective, backend, cuts, tmp_path):
    expected_model, expected = train_once(objective, backend)
    for cut in cuts:
        with pytest.raises(CutOffError):
            train_once(objective, backend, Checkpoint(tmp_path / "network", "key"), cut)
    model, history = train_once(objective, backend, Checkpoint(tmp_path / "network", "key"))
    assert history == expected
    for name, tensor in expected_model.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    # Once it has ended, nothing is trained again.
    again, same = train_once(objective, backend, Checkpoint(tmp_path / "network", "key"), cut_after=0)
    assert same == expected
    assert not again.training
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


def test_a_checkpoint_is_written_when_it_is_due(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS", 3600.0)
    with pytest.raises(CutOffError):
        train_once(HideAndScore(), "auto", Checkpoint(tmp_path / "network", "key"), cut_after=3)
    assert not list(tmp_path.iterdir())


class CutOff:
    """A callback that fails at one epoch of one network."""

    def __init__(self, network, epoch):
        self.at = network, epoch
        self.heard = []

    def __call__(self, told):
        self.heard.append((told.network, told.epoch))
        if (told.network, told.epoch) == self.at:
            raise CutOffError


def assert_same(a, b):
    assert a.history_ == b.history_
    assert len(a.models_) == len(b.models_)
    for one, other in zip(a.models_, b.models_, strict=True):
        assert all(torch.equal(s, t) for s, t in zip(one.state_dict().values(), other.state_dict().values()))  # noqa: B905


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_fit_goes_on_where_it_was_cut_off(table, tmp_path, n_jobs):
    whole = VSAEImputer(**QUICK).fit(table)
    folder = tmp_path / "new" / "checkpoints"
    for at in ((0, 2), (3, 1)):
        with pytest.raises(CutOffError):
            VSAEImputer(checkpoint_dir=folder, callbacks=[CutOff(*at)], n_jobs=n_jobs, **QUICK).fit(table)
    resumed = CutOff(-1, -1)
    imputer = VSAEImputer(checkpoint_dir=folder, callbacks=[resumed], n_jobs=n_jobs, **QUICK).fit(table)
    assert_same(imputer, whole)
    assert (0, 0) not in resumed.heard  # it was not trained again from the beginning
    np.testing.assert_array_equal(imputer.transform(table), whole.transform(table))
    # A fit that came to its end is read, not trained again.
    finished = CutOff(-1, -1)
    assert_same(VSAEImputer(checkpoint_dir=str(folder), callbacks=[finished], **QUICK).fit(table), whole)
    assert not finished.heard


def test_a_further_fit_has_checkpoints_of_its_own(table, tmp_path):
    def imputer(folder=None, callbacks=None):
        first = VSAEImputer(warm_start=True, **QUICK).fit(table)
        return first.set_params(checkpoint_dir=folder, callbacks=callbacks)

    whole = imputer().fit(table)
    with pytest.raises(CutOffError):
        imputer(tmp_path, [CutOff(0, 2)]).fit(table)
    assert_same(imputer(tmp_path).fit(table), whole)
    with pytest.raises(ValueError, match="other settings"):  # trained from the beginning
        VSAEImputer(checkpoint_dir=tmp_path, **QUICK).fit(table)


@pytest.mark.parametrize(
    "change", [{"random_state": 1}, {"epochs": 5}, {"learning_rate": 1e-3}, {"preset": "paper"}, {"data": True}]
)
def test_other_data_or_settings_are_refused(table, tmp_path, change):
    VSAEImputer(checkpoint_dir=tmp_path, **QUICK).fit(table)
    change = dict(change)
    data = table.iloc[:-1] if change.pop("data", False) else table
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="name another checkpoint_dir"):
        VSAEImputer(checkpoint_dir=tmp_path, **{**QUICK, **change}).fit(data)
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_what_does_not_change_the_networks_may_change(table, tmp_path):
    VSAEImputer(checkpoint_dir=tmp_path, **QUICK).fit(table)
    VSAEImputer(checkpoint_dir=tmp_path, **{**QUICK, "n_samples": 30}, n_jobs=1, verbose=1).fit(table)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"\xff" * len(b)])
def test_a_damaged_checkpoint_is_named(table, tmp_path, damage):
    VSAEImputer(checkpoint_dir=tmp_path, **QUICK).fit(table)
    path = tmp_path / "network-1.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"network-1.safetensors is no checkpoint, or it is damaged; delete it"):
        VSAEImputer(checkpoint_dir=tmp_path, **QUICK).fit(table)


def test_wrong_folders_are_named(table, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file; name a folder"):
        VSAEImputer(checkpoint_dir=tmp_path / "file", **QUICK).fit(table)
    with pytest.raises(ValueError, match="checkpoint_dir must be the path of a folder"):
        VSAEImputer(checkpoint_dir=3, **QUICK).fit(table)


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_a_second_fit_in_one_folder_is_refused(table, tmp_path):
    def second(told):
        with pytest.raises(BlockingIOError, match="another run is at work"):
            VSAEImputer(checkpoint_dir=tmp_path, **QUICK).fit(table)
        return True

    VSAEImputer(checkpoint_dir=tmp_path, callbacks=[second], **QUICK).fit(table)


def test_models_do_not_remember_the_folder(table, tmp_path):
    VSAEImputer(checkpoint_dir=tmp_path / "checkpoints", **QUICK).fit(table).save(tmp_path / "model")
    assert VSAEImputer.load(tmp_path / "model").checkpoint_dir is None
    assert b"checkpoints" not in (tmp_path / "model").read_bytes()


KILLED = """
import os, signal, sys
from vsae_fast import checkpoints, impute_parquet
checkpoints.SECONDS = 0.0

def kill(told):
    if (told.network, told.epoch) == (1, 2):
        os.kill(os.getpid(), signal.SIGKILL)

impute_parquet(sys.argv[1], sys.argv[2], epochs=4, n_models=2, n_samples=20, callbacks=[kill])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_the_training_of_a_stream_goes_on_after_a_kill(tmp_path):
    generator = np.random.default_rng(0)
    values = generator.normal(size=(300, 2))
    columns = {name: pa.array(values[:, j], mask=generator.random(300) < 0.3) for j, name in enumerate("ab")}
    pq.write_table(pa.table(columns), tmp_path / "in.parquet", row_group_size=100)
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "in.parquet", tmp_path / "out.parquet"])
    assert killed.returncode == -9
    assert list(tmp_path.glob(".out.parquet.vsae_fast/training/network-*.safetensors"))
    resumed = CutOff(-1, -1)
    options = {"epochs": 4, "n_models": 2, "n_samples": 20}
    impute_parquet(tmp_path / "in.parquet", tmp_path / "out.parquet", callbacks=[resumed], **options)
    assert (1, 0) not in resumed.heard
    impute_parquet(tmp_path / "in.parquet", tmp_path / "whole.parquet", **options)
    assert digest(tmp_path / "out.parquet") == digest(tmp_path / "whole.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "out.parquet", "whole.parquet"]
