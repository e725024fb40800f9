import copy
import logging
import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from tests.random_models import CATEGORICAL, MIXED, NUMERICAL_12, random_rows
from vsae_fast.hidden_cells import imputation_error
from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.vsae import VSAE
from vsae_fast.objective import HideAndScore, TwoPhase
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.presets import AUTO_BLOCKS, AUTO_COLUMNS, AUTO_NARROW, EPOCH_RANGE, build_preset
from vsae_fast.training import History, TrainingPlan, batches, one_cycle, split, train

SMALL = NetworkConfig(collective_hidden=(8,), data_hidden=(8,), mask_hidden=(4,), numerical_hidden=(4,),
                      categorical_hidden=(4,))  # fmt: skip


def small_model(seed=0, layout=MIXED, config=SMALL):
    torch.manual_seed(seed)
    return VSAE(layout, config)


def rows(n_rows, layout=MIXED, seed=0):
    x, mask = random_rows(layout, n_rows, torch.Generator().manual_seed(seed), observed=0.7)
    return x.float(), mask.float()


@dataclass
class ScriptedScore:
    """The real loss with a validation score that was written down beforehand."""

    scores: list

    def __post_init__(self):
        self.remaining = list(self.scores)
        self.states = []

    def loss(self, model, x, mask, epoch, draws):
        return HideAndScore(n_samples=1).loss(model, x, mask, epoch, draws)

    def score(self, model, x, mask, draws):
        self.states.append(copy.deepcopy(model.state_dict()))
        return torch.full((x.shape[0],), self.remaining.pop(0))


def test_best_epoch_is_kept():
    model, objective = small_model(), ScriptedScore([-3.0, -1.0, -2.0, -1.5])
    x, mask = rows(120)
    history = train(model, x, mask, objective, TrainingPlan(epochs=4), torch.Generator().manual_seed(0))
    assert history.best_epoch == 1
    assert history.score == [-3.0, -1.0, -2.0, -1.5]
    assert not model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, objective.states[1][name])
    assert not torch.equal(model.decoders.raw_scale, objective.states[3]["decoders.raw_scale"])


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_the_error_on_hidden_cells_chooses_the_epoch(backend, monkeypatch):
    written, seen = [4.0, 3.0, 1.0, 2.0], []  # the first before training, to see whether there are cells to hide

    def error(model, x, mask, visible_weight, seed, *, n_patterns=16):
        assert not model.training
        seen.append((copy.deepcopy(model.state_dict()), len(x), visible_weight, seed, n_patterns))
        return written[len(seen) - 1] if len(seen) <= 4 else imputation_error(model, x, mask, visible_weight, seed)

    monkeypatch.setattr("vsae_fast.training.imputation_error", error)
    model = small_model()
    plan = TrainingPlan(epochs=3, validate_by="hidden cells")
    history = train(model, *rows(120), TwoPhase(), plan, torch.Generator().manual_seed(0), backend=backend)
    assert history.score == [-3.0, -1.0, -2.0]
    assert history.best_epoch == 1
    assert all(torch.equal(tensor, seen[2][0][name]) for name, tensor in model.state_dict().items())
    assert not torch.equal(seen[1][0]["decoders.raw_scale"], seen[2][0]["decoders.raw_scale"])
    assert {entry[1:] for entry in seen[:4]} == {(12, 1.0, seen[0][3], 4)}


def test_hidden_cells_are_scored_with_the_visible_weight_of_training(monkeypatch):
    weights = []

    def error(model, x, mask, visible_weight, seed, **options):
        weights.append(visible_weight)
        return imputation_error(model, x, mask, visible_weight, seed, **options)

    monkeypatch.setattr("vsae_fast.training.imputation_error", error)
    plan = TrainingPlan(epochs=2, validate_by="hidden cells")
    history = train(small_model(), *rows(120), HideAndScore(), plan, torch.Generator().manual_seed(0))
    assert set(weights) == {HideAndScore().visible_weight}
    assert all(-2 < score < 0 for score in history.score)


def test_the_bound_chooses_where_no_known_cell_is_there_to_hide():
    x, mask = rows(120)
    histories = []
    for way in ("bound", "hidden cells"):
        plan = TrainingPlan(epochs=2, validate_by=way)
        generator = torch.Generator().manual_seed(0)
        unknown = mask.clone()
        unknown[split(120, plan.validation_fraction, torch.Generator().manual_seed(0))[1]] = 0
        histories.append(train(small_model(), x, unknown, TwoPhase(), plan, generator))
    assert histories[0].score == histories[1].score


def test_epochs_without_a_finite_score_are_never_kept():
    model, objective = small_model(), ScriptedScore([math.nan, -2.0, math.nan, math.inf, -3.0])
    history = train(model, *rows(120), objective, TrainingPlan(epochs=5), torch.Generator().manual_seed(0))
    assert history.best_epoch == 1
    assert all(torch.equal(tensor, objective.states[1][name]) for name, tensor in model.state_dict().items())
    never = ScriptedScore([math.nan, -math.inf])
    with pytest.raises(FloatingPointError, match="no epoch had a finite validation score; lower learning_rate"):
        train(small_model(), *rows(120), never, TrainingPlan(epochs=2), torch.Generator().manual_seed(0))


def test_last_epoch_is_kept_without_validation_rows():
    history = train(small_model(), *rows(50), HideAndScore(), TrainingPlan(epochs=3), torch.Generator().manual_seed(0))
    assert all(math.isnan(score) for score in history.score)
    assert history.best_epoch == 2


def test_same_seed_same_parameters_and_other_seed_others():
    def trained(seed):
        model = small_model()
        train(model, *rows(100), HideAndScore(), TrainingPlan(epochs=2), torch.Generator().manual_seed(seed))
        return model.state_dict()

    first, again, other = trained(0), trained(0), trained(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["decoders.raw_scale"], other["decoders.raw_scale"])


def test_global_generator_is_left_alone():
    model = small_model()
    state = torch.get_rng_state()
    for objective in (HideAndScore(), TwoPhase(warmup_epochs=1, n_unobserved_samples=3)):
        train(model, *rows(100), objective, TrainingPlan(epochs=2), torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("objective", [HideAndScore(), TwoPhase(warmup_epochs=5, n_unobserved_samples=10)])
def test_training_raises_the_bound(objective):
    model = small_model(layout=NUMERICAL_12)
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(400, 1, generator=generator)
    x = factor + 0.3 * torch.randn(400, 12, generator=generator)
    mask = (torch.rand(400, 12, generator=generator) < 0.7).float()
    history = train(model, x, mask, objective, TrainingPlan(epochs=20, learning_rate=1e-2), generator)
    assert history.score[-1] > history.score[0]
    assert sum(history.loss[-3:]) < sum(history.loss[:3])


@pytest.mark.parametrize("n_rows", [1, 2, 9, 10, 64, 65, 66, 129])
def test_batches_cover_every_row_once_and_none_has_a_single_row(n_rows):
    parts = list(batches(n_rows, 64, torch.Generator().manual_seed(0)))
    assert sorted(torch.cat(parts).tolist()) == list(range(n_rows))
    assert n_rows == 1 or min(len(part) for part in parts) > 1
    assert max(len(part) for part in parts) <= 65


@pytest.mark.parametrize("n_rows", [1, 2, 65])
def test_trains_on_very_few_rows(n_rows):
    model = small_model()
    train(model, *rows(n_rows), HideAndScore(), TrainingPlan(epochs=2), torch.Generator().manual_seed(0))
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


def test_split_is_disjoint_and_drops_tiny_validation_sets():
    training, validation = split(200, 0.1, torch.Generator().manual_seed(0))
    assert len(validation) == 20
    assert sorted([*training.tolist(), *validation.tolist()]) == list(range(200))
    assert len(split(50, 0.1, torch.Generator().manual_seed(0))[1]) == 0


def test_one_cycle():
    assert one_cycle(0) == pytest.approx(0.1)
    assert one_cycle(0.2) == pytest.approx(1)
    assert one_cycle(1) == pytest.approx(0, abs=1e-12)
    assert max(one_cycle(i / 100) for i in range(101)) == pytest.approx(1)


def test_warns_when_the_bound_was_still_rising(caplog):
    rising, settled = [float(i) for i in range(20)], [-math.exp(-i) for i in range(20)]
    with caplog.at_level(logging.WARNING, "vsae_fast"):
        train(small_model(), *rows(120), ScriptedScore(settled), TrainingPlan(epochs=20), torch.Generator())
        assert not caplog.records
        train(small_model(), *rows(120), ScriptedScore(rising), TrainingPlan(epochs=20), torch.Generator())
    assert "still rising after 20 epochs; raise epochs" in caplog.text


def test_still_rising_needs_a_history():
    assert not History(score=[1.0, 2.0]).still_rising()
    assert not History(score=[math.nan] * 30).still_rising()


def test_diverged_training_raises():
    plan = TrainingPlan(epochs=3, learning_rate=1e30)
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        train(small_model(), *rows(100), HideAndScore(), plan, torch.Generator().manual_seed(0))


# ---- the paper preset, appendices C and D -------------------------------------------------------------------------


def linear_sizes(module):
    return [(m.in_features, m.out_features) for m in module.modules() if isinstance(m, nn.Linear)]


def test_paper_network_is_the_appendix():
    preset = build_preset("paper", MIXED, 1000, 2500)
    model = VSAE(MIXED, preset.network)
    n_attributes, n_columns = MIXED.n_attributes, MIXED.n_columns
    assert model.n_latent == 2 * n_attributes  # two latent dimensions per attribute
    groups = model.layout.groups(torch.device("cpu"))
    encoders = zip(groups, model.attributive.encoders, strict=True)
    widths = {group.kind: [w.shape[-1] for w in encoder.weights] for group, encoder in encoders}
    assert widths == {"numerical": [16, 16, 16, 4], "categorical": [64, 64, 64, 4]}
    assert linear_sizes(model.decoders.mask) == [(10, 16), (16, 16), (16, 16), (16, n_attributes)]
    assert linear_sizes(model.decoders.data) == [(10 + n_attributes, 64), (64, 64), (64, 64), (64, n_columns)]
    assert model.decoders.data.activations == [True, False, False, False]  # nothing between the last Linears
    assert model.decoders.context is None
    assert preset.network.fill == "noise"
    norms = [m for m in model.decoders.modules() if isinstance(m, nn.BatchNorm1d)]
    assert len(norms) == 2


@pytest.mark.parametrize(
    ("layout", "rate", "epochs"), [(MIXED, 1e-3, 1000), (NUMERICAL_12, 1e-3, 1000), (CATEGORICAL, 1e-2, 2000)]
)
def test_paper_training_is_the_appendix(layout, rate, epochs):
    preset = build_preset("paper", layout, 1000, 2500)
    assert (preset.plan.learning_rate, preset.plan.epochs) == (rate, epochs)
    assert preset.plan.schedule == "constant"
    assert preset.weight_decays == (0.0,)
    assert preset.n_models == 1
    assert preset.plan.clip_norm is None
    assert isinstance(preset.objective, TwoPhase)
    assert (preset.objective.warmup_epochs, preset.objective.n_unobserved_samples) == (100, 100)
    assert (preset.n_samples, preset.visible_weight) == (1000, 1.0)


def test_auto_hides_less_where_most_columns_are_numbers():
    def hidden(kinds, widths):
        return build_preset("auto", AttributeLayout(kinds, widths), 1000, 2500).objective.hidden_share

    number, level = ("numerical",), ("categorical",)
    of_levels = hidden(level, (3,))
    of_numbers = hidden(number, (1,))
    assert sum(of_numbers) < sum(of_levels)
    assert hidden(number * 2 + level, (1, 1, 3)) == of_numbers
    assert hidden(number + level, (1, 3)) == of_levels  # no majority
    assert hidden(number * 2, (784, 784)) == of_levels  # images


def test_auto_is_narrow_where_cells_and_columns_are_few():
    def network(n_numbers, n_observed, extra=()):
        widths = (1,) * n_numbers + extra
        kinds = ("numerical",) * n_numbers + ("categorical",) * len(extra)
        return build_preset("auto", AttributeLayout(kinds, widths), 1000, n_observed).network

    assert network(12, 7000) == AUTO_NARROW
    assert network(12, 8000) == AUTO_COLUMNS  # many cells
    assert network(32, 7000) == AUTO_COLUMNS  # many columns
    assert network(2, 1000, (40,)) == AUTO_COLUMNS  # many levels
    images = AttributeLayout(("numerical",), (784,))
    assert build_preset("auto", images, 100, 50).network == AUTO_BLOCKS


def test_auto_plan_has_a_floor_of_steps():
    for n_rows in (50, 300, 5000, 50_000):
        plan = build_preset("auto", MIXED, n_rows, 3 * n_rows).plan
        assert plan.epochs * n_rows / plan.batch_size >= 300
        assert EPOCH_RANGE[0] <= plan.epochs <= EPOCH_RANGE[1]
    assert build_preset("auto", MIXED, 10**6, 10**7).weight_decays == (0.01,)
    assert [build_preset("auto", MIXED, 8000, n).n_models for n in (49_999, 50_000)] == [3, 2]
    assert build_preset("auto", MIXED, 8000, 75_000).weight_decays == pytest.approx((0.3, 0.1, 0.03, 0.01))
    assert build_preset("auto", MIXED, 8000, 80_000).weight_decays == pytest.approx((0.28125, 0.09375, 0.028125))
    assert build_preset("auto", MIXED, 300, 2000).weight_decays == pytest.approx((9.0, 3.0, 0.9, 0.3))


def test_imputation_error_sees_what_the_model_knows():
    """Near the noise for cells that follow from their neighbours, near one for independent ones."""
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(400, 1, generator=generator)
    dependent = factor + 0.3 * torch.randn(400, 12, generator=generator)
    independent = torch.randn(400, 12, generator=generator)
    mask = (torch.rand(400, 12, generator=generator) < 0.8).float()
    errors = []
    for x in (dependent, independent):
        model = small_model(layout=NUMERICAL_12)
        plan = TrainingPlan(epochs=40, learning_rate=1e-2)
        history = train(model, x, mask, HideAndScore(), plan, torch.Generator().manual_seed(0))
        errors.append(history.imputation_error)
        again = imputation_error(model, x[:40], mask[:40], 0.2, 5)
        assert again == imputation_error(model, x[:40], mask[:40], 0.2, 5)
    assert errors[0] < 0.3
    assert 0.7 < errors[1] < 1.6


def test_imputation_error_without_observed_cells_is_nan():
    model = small_model().eval()
    assert math.isnan(imputation_error(model, *(t * 0 for t in rows(20)), 1.0, 0))
