import math
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.random_models import NUMERICAL_12
from vsae_fast import VSAEImputer
from vsae_fast.ensemble_imputation import EnsembleImputer, drawing_steps
from vsae_fast.ensemble_training import RunOptions, _run_all, plausible, still_in_race, train_models
from vsae_fast.objective import HideAndScore
from vsae_fast.ops.importance_impute import Imputation
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.presets import build_preset
from vsae_fast.training import TrainingPlan


@pytest.fixture(scope="module")
def rows():
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(150, 1, generator=generator)
    x = factor + 0.3 * torch.randn(150, 12, generator=generator)
    return x, (torch.rand(150, 12, generator=generator) < 0.7).float()


def preset(**changes):
    base = build_preset("auto", NUMERICAL_12, 150, 1200)
    return replace(base, **{"plan": TrainingPlan(epochs=2, batch_size=32), "n_models": 3, **changes})


def test_members_differ_and_do_not_depend_on_threads(rows):
    one = preset(weight_decays=(0.1,))
    results = [train_models(NUMERICAL_12, one, *rows, 5, RunOptions(n_threads=n))[0] for n in (1, 2, 7)]
    states = [[model.state_dict() for model in models] for models in results]
    assert len(states[0]) == 3
    assert not torch.equal(states[0][0]["decoders.raw_scale"], states[0][1]["decoders.raw_scale"])
    for other in states[1:]:
        for mine, yours in zip(states[0], other, strict=True):
            assert all(torch.equal(mine[name], yours[name]) for name in mine)


def test_member_i_of_an_ensemble_is_a_single_model_of_its_seed(rows):
    one = preset(weight_decays=(0.1,))
    both, _ = train_models(NUMERICAL_12, one, *rows, 5)
    alone, _ = train_models(NUMERICAL_12, replace(one, n_models=1), *rows, 6)
    assert torch.equal(both[1].decoders.raw_scale, alone[0].decoders.raw_scale)


def test_the_weight_decay_that_validates_better_is_kept(rows):
    plan = TrainingPlan(epochs=12, batch_size=32, learning_rate=1e-2)
    ruinous_first = preset(plan=plan, weight_decays=(30.0, 0.01))
    models, histories = train_models(NUMERICAL_12, ruinous_first, *rows, 5)
    expected, _ = train_models(NUMERICAL_12, preset(plan=plan, weight_decays=(0.01,)), *rows, 5)
    assert len(models) == len(histories) == 3
    assert torch.equal(models[0].decoders.raw_scale, expected[0].decoders.raw_scale)


def test_hopeless_weight_decays_train_one_network_only(rows, monkeypatch):
    plan = TrainingPlan(epochs=12, batch_size=32, learning_rate=1e-2)
    two = preset(plan=plan, weight_decays=(30.0, 0.01))
    whole = train_models(NUMERICAL_12, two, *rows, 5)
    monkeypatch.setattr("vsae_fast.ensemble_training.RACE_ROWS", 150)
    for n_threads in (1, 2):
        heard = []
        raced = train_models(NUMERICAL_12, two, *rows, 5, RunOptions(callbacks=[heard.append], n_threads=n_threads))
        assert {told.network for told in heard} == {0, 3, 4, 5}
        for mine, yours in zip(raced[0], whole[0], strict=True):
            assert torch.equal(mine.decoders.raw_scale, yours.decoders.raw_scale)
        assert raced[1] == whole[1]
    monkeypatch.setattr("vsae_fast.ensemble_training.OUT_OF_RACE", 1e9)
    everybody = train_models(NUMERICAL_12, two, *rows, 5)
    assert everybody[1] == whole[1]


def test_who_is_still_in_the_race():
    assert still_in_race([1.0, 1.07, 1.09, 0.999]) == [0, 1, 3]
    assert still_in_race([math.nan, math.nan]) == [0, 1]


def test_plausible():
    assert plausible([[1.0, 2.0]]) == [0]
    assert plausible([[1.5, 2.5, 3.6], [1.0, 2.0, 3.0]]) == [1]
    assert plausible([[1.0, 2.0, 3.0], [0.1, 2.5, 3.1]]) == [0, 1]
    assert plausible([[1.3, 2.3], [1.1, 2.1], [1.0, 2.0]]) == [2]
    assert plausible([[1.1], [1.0]]) == [1]
    assert plausible([[math.nan, math.nan], [math.nan, math.nan]]) == [0, 1]


class Fixed:
    layout = AttributeLayout(("numerical", "numerical"), (1, 1))

    def __init__(self, value):
        self.value = value

    def run(self, x, mask, *, n_draws=0, row_id=None, seed=0, tolerance_factor=1.0):
        self.tolerance_factor = tolerance_factor
        evidence = torch.full((len(x),), math.log(self.value), dtype=torch.float64)
        spent = torch.full((len(x),), 7, dtype=torch.int32)
        draws = x.new_full((len(x), n_draws, x.shape[1]), self.value)
        return Imputation(torch.full_like(x, self.value), evidence, evidence * 0 + self.value, spent, draws)


def test_average_and_mixture():
    members = [Fixed(1.0), Fixed(2.0), Fixed(6.0)]
    result = EnsembleImputer(members).run(torch.zeros(4, 2), torch.zeros(4, 2))
    assert all(member.tolerance_factor == math.sqrt(3) for member in members)
    assert torch.equal(result.imputed, torch.full((4, 2), 3.0))
    torch.testing.assert_close(result.log_evidence.exp(), torch.full((4,), 3.0).double())
    assert result.effective_size.tolist() == [3.0] * 4


def test_a_draw_comes_from_one_member_and_members_take_turns():
    members = EnsembleImputer([Fixed(1.0), Fixed(2.0), Fixed(6.0)])
    x = torch.zeros(4, 2)
    draws = [members.draw(x, x, number, 0, 5) for number in range(6)]
    assert all(draw.shape == (4, 2) and (draw == draw[0, 0]).all() for draw in draws)
    values = [draw[0, 0].item() for draw in draws]
    assert sorted(values[:3]) == sorted(values[3:]) == [1.0, 2.0, 6.0]
    assert len({members.draw(x, x, 0, 0, seed)[0, 0].item() for seed in range(30)}) == 3


def test_more_members_are_better():
    """Averaging independent members cannot be worse than their average member, by convexity of the squared error."""
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(300, 2))
    X = factor @ rng.normal(size=(2, 6)) + 0.3 * rng.normal(size=(300, 6))
    hidden = rng.random(X.shape) < 0.4
    incomplete = np.where(hidden, np.nan, X)

    imputer = VSAEImputer(epochs=10, n_models=4, random_state=0).fit(incomplete)
    imputer.models_, imputer.history_ = imputer.models_[:4], imputer.history_[:4]  # of one weight decay
    together = ((imputer.transform(incomplete) - X)[hidden] ** 2).mean()
    alone = []
    models, histories, seed = imputer.models_, imputer.history_, imputer.seed_
    for member, (model, history) in enumerate(zip(models, histories, strict=True)):
        imputer.models_, imputer.history_, imputer.seed_ = [model], [history], seed + member
        alone.append(((imputer.transform(incomplete) - X)[hidden] ** 2).mean())
    assert together < np.mean(alone)


def test_a_failing_member_stops_the_others(rows):
    plan = TrainingPlan(epochs=1000, learning_rate=1e30)
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        train_models(NUMERICAL_12, preset(plan=plan, objective=HideAndScore()), *rows, 5, RunOptions(n_threads=2))


def test_an_interrupt_ends_training_within_a_second():
    code = (
        "import os, signal, threading, time, numpy as np, vsae_fast\n"
        "X = np.random.default_rng(0).normal(size=(20_000, 12))\n"
        "X[::2, ::2] = np.nan\n"
        "imputer = vsae_fast.VSAEImputer(epochs=10_000, random_state=0)\n"
        "vsae_fast.VSAEImputer(epochs=1).fit(X[:100])\n"
        "threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "begin = time.perf_counter()\n"
        "try:\n"
        "    imputer.fit(X)\n"
        "except KeyboardInterrupt:\n"
        "    print(time.perf_counter() - begin - 2.0)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=100)
    assert float(result.stdout) < 1.0


def test_an_interrupt_while_networks_are_handed_out_ends_those_that_train(monkeypatch):
    stop, begun = threading.Event(), []

    def run(job):
        begun.append(job)
        stop.wait(10)

    class Interrupted(ThreadPoolExecutor):
        def submit(self, *arguments):
            if begun:
                raise KeyboardInterrupt
            future = super().submit(*arguments)
            while not begun:
                time.sleep(0.001)
            return future

    monkeypatch.setattr("vsae_fast.ensemble_training.ThreadPoolExecutor", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        _run_all(run, 3, 2, stop)
    assert begun == [0]
    assert stop.is_set()


def test_draws_come_from_the_members_that_were_shrunk_least():
    members = EnsembleImputer([Fixed(1.0), Fixed(2.0), Fixed(6.0)], drawing=[0, 2])
    x = torch.zeros(4, 2)
    assert {members.draw(x, x, number, 0, 5)[0, 0].item() for number in range(6)} == {1.0, 6.0}


def test_a_rows_hidden_attributes_are_drawn_one_after_the_other():
    order = torch.tensor([3, 0, 2, 1, 4])
    mask = torch.tensor([[1.0, 0, 0, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    steps = drawing_steps(mask, order)
    assert steps[0].tolist() == [-1, 2, 1, 0, -1]
    # Five in four steps: two at once, the others alone, all in the order given.
    assert steps[1][order].tolist() == [0, 0, 1, 2, 3]
    assert (steps[2] == -1).all()
    assert drawing_steps(mask[:1], order).tolist() == steps[:1].tolist()


def test_what_was_drawn_counts_for_what_is_drawn_next():
    """Two columns that are nearly one, both hidden: drawn at once they would hardly depend on each other."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=600)
    X = np.column_stack([a, a + 0.05 * rng.normal(size=600), rng.normal(size=600)])
    hidden = np.zeros(X.shape, dtype=bool)
    hidden[:200, :2] = True
    imputer = VSAEImputer(n_models=1, epochs=100, random_state=0).fit(np.where(hidden, np.nan, X))
    for draw in imputer.sample(np.where(hidden, np.nan, X), 3, random_state=0):
        assert np.corrcoef(draw[:200, 0], draw[:200, 1])[0, 1] > 0.5
