"""Callbacks, early stopping, time budget, warm start and progress, as a user of the estimator sees them."""

import io
import math
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from tests.test_estimator import mixed_table
from vsae_fast import VSAEImputer
from vsae_fast.monitor import Epoch

QUICK = {"epochs": 4, "n_samples": 20, "random_state": 0}


@pytest.fixture(scope="module")
def table():
    return mixed_table(200)


def states(imputer):
    return [torch.cat([t.flatten().float() for t in model.state_dict().values()]) for model in imputer.models_]


def test_callbacks_hear_of_every_epoch_of_every_network(table):
    heard = []
    imputer = VSAEImputer(callbacks=[heard.append], n_models=2, **QUICK).fit(table)
    assert all(isinstance(told, Epoch) for told in heard)
    n = heard[0].n_networks
    assert sorted((told.network, told.epoch) for told in heard) == [(i, e) for i in range(n) for e in range(4)]
    kept = {tuple(history.loss) for history in imputer.history_}
    told = {tuple(e.loss for e in sorted(heard, key=lambda e: e.epoch) if e.network == i) for i in range(n)}
    assert kept <= told
    assert all(math.isfinite(e.score) for e in heard)


def test_callbacks_change_no_result(table):
    plain = VSAEImputer(**QUICK).fit(table)
    watched = VSAEImputer(callbacks=[lambda epoch: None], **QUICK).fit(table)
    assert all(torch.equal(a, b) for a, b in zip(states(plain), states(watched), strict=True))


def test_a_callback_ends_the_training_of_its_network(table):
    imputer = VSAEImputer(callbacks=[lambda told: told.epoch == 1], **QUICK).fit(table)
    assert imputer.n_iter_ == 2
    assert {history.ended_by for history in imputer.history_} == {"callback"}


def test_a_failing_callback_fails_the_fit(table):
    def fails(told):
        raise RuntimeError("disk of the logger is full")

    with pytest.raises(RuntimeError, match="logger is full"):
        VSAEImputer(callbacks=[fails], **QUICK).fit(table)


class Recorder:
    """scikit-learn's protocol, from 1.9 on."""

    def __init__(self, last=99):
        self.events, self.last = [], last

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.events.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context):
        self.events.append(f"end {context.task_name}")
        return context.task_name == "epoch" and context.task_id == self.last


def test_callbacks_of_scikit_learn(table):
    pytest.importorskip("sklearn.callback")
    recorder = Recorder()
    imputer = VSAEImputer(n_models=1, **QUICK).set_callbacks(recorder).fit(table)
    assert recorder.events[:2] == ["setup", "begin fit"]
    assert recorder.events[-2:] == ["end fit", "teardown"]
    n = recorder.events.count("begin network")
    assert n >= len(imputer.models_)
    assert recorder.events.count("end network") == n
    assert recorder.events.count("end epoch") == recorder.events.count("begin epoch") == 4 * n
    stopped = VSAEImputer(n_models=1, **QUICK).set_callbacks(Recorder(last=1)).fit(table)
    assert stopped.n_iter_ == 2


def test_early_stopping_ends_a_training_that_no_longer_improves():
    """Pure noise: nothing can be learned, and the best epoch comes early."""
    X = np.random.default_rng(0).normal(size=(120, 4))
    options = {"epochs": 60, "n_models": 1, "learning_rate": 0.02, "random_state": 0, "n_samples": 20}
    imputer = VSAEImputer(n_iter_no_change=5, **options).fit(X)
    stopped = [history for history in imputer.history_ if history.ended_by == "patience"]
    assert stopped
    for history in stopped:
        assert len(history.epoch) == history.best_epoch + 1 + 5 < 60
        assert history.score[history.best_epoch] == max(history.score)
    whole = VSAEImputer(n_iter_no_change=60, **options).fit(X)
    assert {len(history.epoch) for history in whole.history_} == {60}


def test_auto_stops_early_by_default_and_paper_never(table):
    from vsae_fast.ops.layout import AttributeLayout
    from vsae_fast.presets import auto, paper

    layout = AttributeLayout(("numerical",), (1,))
    plan = auto(layout, 500, 2000).plan
    assert plan.patience == math.ceil(plan.epochs / 2)
    assert paper(layout).plan.patience is None


def test_max_time_is_kept_and_the_schedule_comes_to_its_end(table):
    rates = []
    from vsae_fast.native_training import NativeTrainer

    class Watched(NativeTrainer):
        def steps(self, batches, epoch, learning_rates):
            rates.extend(learning_rates)
            return super().steps(batches, epoch, learning_rates)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vsae_fast.training.NativeTrainer", Watched)
        begin = time.monotonic()
        imputer = VSAEImputer(epochs=100_000, max_time=1.0, n_models=1, n_jobs=1, random_state=0).fit(table)
        spent = time.monotonic() - begin
    assert spent < 10  # 100,000 epochs take an hour
    assert {history.ended_by for history in imputer.history_} == {"time"}
    assert imputer.n_iter_ > 1
    assert rates[-1] < 0.2 * max(rates)


def test_warm_start_goes_on_and_never_gets_worse(table):
    imputer = VSAEImputer(warm_start=True, **QUICK).fit(table)
    first, score = imputer.history_, [max(history.score) for history in imputer.history_]
    before = states(imputer)
    imputer.fit(table)
    assert [len(history.epoch) for history in imputer.history_] == [8] * len(first)
    assert [history.epoch for history in imputer.history_] == [list(range(8))] * len(first)
    assert [history.loss[:4] for history in imputer.history_] == [history.loss for history in first]
    assert any(not torch.equal(a, b) for a, b in zip(before, states(imputer), strict=True))
    assert all(history.weight_decay == old.weight_decay for history, old in zip(imputer.history_, first, strict=True))
    assert imputer.n_iter_ == 8
    # Validation rows are drawn anew, so scores compare with a tolerance; training must not have started afresh.
    assert all(max(h.score) > s - 0.5 for h, s in zip(imputer.history_, score, strict=True))


def test_warm_start_keeps_schema_and_scaling(table):
    imputer = VSAEImputer(warm_start=True, **QUICK).fit(table)
    schema = imputer.schema_
    with pytest.warns(UserWarning, match="not seen at fit"):
        imputer.fit_transform(table.assign(a=table["a"] * 10, k=table["k"].replace("up", "sideways")))
    assert imputer.schema_ == schema
    with pytest.raises(ValueError, match="unseen at fit time"):
        imputer.fit(table.assign(new=1.0))
    cold = VSAEImputer(**QUICK).fit(table)
    assert cold.fit(table.assign(new=np.arange(len(table)) * 0.5)).n_features_in_ == 5


def test_progress_shows_on_a_terminal_and_is_silent_in_a_pipe(table, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        VSAEImputer(verbose=1, **QUICK).fit(table)
        assert ("training: " in stream.getvalue()) is shown


def test_nothing_is_printed_in_a_pipe():
    code = (
        "import numpy as np, vsae_fast\n"
        "X = np.random.default_rng(0).normal(size=(40, 3)); X[::3, 0] = np.nan\n"
        "vsae_fast.impute(X, epochs=2, verbose=1, random_state=0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout == done.stderr == ""
