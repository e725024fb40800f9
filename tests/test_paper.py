"""The paper's experiments: printed values, opponents' losses, the runner end to end on made-up data."""

import json
import math
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from bench.baselines import gain, misgan
from bench.paper import __main__ as command
from bench.paper import cells, deep, figures, report, sets
from bench.paper.cells import FLOOR, QUICK, Cell, Scale, cells_of, execute, methods_of
from bench.paper.printed import TABLES
from tests.test_datasets import write_digits, write_features, write_house_numbers
from vsae_fast import datasets
from vsae_fast.training import History

TINY = Scale(epochs=1, n_samples=5, n_rows=40, gan_steps=5, n_trees=2)

# ---- opponents ------------------------------------------------------------------------------------------------------


def test_gain_losses_are_the_hand_worked_ones():
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    odds = torch.tensor([[0.8, 0.3], [0.5, 0.9]])
    cross_entropy = -(math.log(0.8) + math.log(0.7) + math.log(0.5) + math.log(0.9)) / 4
    assert gain.discriminator_loss(odds, mask).item() == pytest.approx(cross_entropy, rel=1e-6)
    known, guess = torch.tensor([[1.0, 0.0], [0.5, 0.2]]), torch.tensor([[0.6, 0.9], [0.5, 0.5]])
    adversarial = -math.log(0.3) / 4  # the one cell that is not observed
    error = (0.4**2 + 0.0 + 0.3**2) / 3  # of the three that are
    loss = gain.generator_loss(odds, guess, known, mask, alpha=100.0)
    assert loss.item() == pytest.approx(adversarial + 100 * error, rel=1e-5)


def test_misgan_losses_are_the_hand_worked_ones():
    def critic(rows):  # slope 2 along the first column
        return 2 * rows[:, :1] + 1

    real, fake = torch.tensor([[1.0, 5.0], [3.0, 0.0]]), torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    assert misgan.critic_loss(critic, real, fake).item() == pytest.approx((1 + 3) / 2 - (3 + 7) / 2)
    assert misgan.gradient_penalty(critic, real, fake, torch.full((2, 1), 0.3)).item() == pytest.approx(1.0)
    x, mask = torch.tensor([[0.5, 1.0]]), torch.tensor([[1.0, 0.0]])
    assert misgan.masked(x, mask, 0.25).tolist() == [[0.5, 0.25]]


def test_misgan_gradients_reach_the_network_they_are_meant_for():
    """With linear critics the gradients are the critics' slopes, with the paper's weights."""
    x = torch.tensor([[0.5, 0.2]], requires_grad=True)
    mask = torch.tensor([[0.9, 0.4]], requires_grad=True)
    completed = torch.tensor([[0.3, 0.7]], requires_grad=True)
    slopes = [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0]), torch.tensor([7.0, 11.0])]
    critics = [lambda rows, s=s: rows @ s for s in slopes]
    misgan.generator_loss(critics, x, mask, completed, alpha=0.1, beta=0.2).backward()
    torch.testing.assert_close(x.grad[0], -slopes[0] * mask[0].detach() + 0.2 * slopes[2])
    torch.testing.assert_close(mask.grad[0], -slopes[1] - 0.1 * slopes[0] * x[0].detach())
    torch.testing.assert_close(completed.grad[0], -slopes[2])


def test_misgan_learns_to_copy_a_column(monkeypatch):
    """With one seed in four it learns nothing or the opposite, and another processor's rounding is another seed."""
    monkeypatch.setattr(misgan.MisGan, "n_hidden", 32)
    monkeypatch.setattr(misgan.MisGan, "n_latent", 8)
    monkeypatch.setattr(misgan.MisGan, "learning_rate", 3e-3)
    random = np.random.default_rng(0)
    a = random.choice([0.0, 1.0], 400)
    table = pd.DataFrame({"a": a, "b": a})
    table.loc[random.random(400) < 0.3, "b"] = np.nan
    hidden = table["b"].isna()

    def learns(seed):
        completed = misgan.MisGan(n_steps=300, seed=seed).fit_transform(table)
        assert not completed.isna().any().any()
        assert (table["b"].dropna() == completed["b"][~hidden]).all()
        return ((completed["b"] - a)[hidden] ** 2).mean() < 0.5 * a.var()

    assert any(map(learns, range(5)))


# ---- printed values -------------------------------------------------------------------------------------------------


def test_every_printed_row_has_every_column():
    for table in TABLES.values():
        for figures_ in table.rows.values():
            assert len(figures_) == len(table.columns)
    # Table 9's middle column is Table 8's sum, where the paper prints both.
    for method in ("AE", "VAE", "CVAE", "VSAE"):
        assert TABLES["table9"].rows[method][1] == TABLES["table8"].rows[method][2]
    # For the others the printed tables contradict each other.
    assert TABLES["table9"].rows["MVAE"][1] != TABLES["table8"].rows["MVAE"][2]


def test_methods_are_known():
    others = {FLOOR, "MissForest", "MICE", "GAIN", "MisGAN"}
    for name in TABLES:
        assert set(methods_of(name)) <= set(deep.METHODS) | others


# ---- running --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Made-up data in place of every set."""
    write_digits(tmp_path / "mnist", 200, 80)
    write_digits(tmp_path / "fashion_mnist", 200, 80)
    write_house_numbers(tmp_path / "svhn")
    write_features(tmp_path / "ict_mmmo", "ict_mmmo")

    def table(name, *, folder):
        del folder
        random = np.random.default_rng(0)
        factor = random.normal(size=60)
        numbers = {f"n{j}": np.exp(0.3 * factor) + 0.1 * random.random(60) for j in range(3)}
        levels = {f"c{j}": np.where(factor + 0.3 * random.normal(size=60) > 0, "a", "b") for j in range(3)}
        kinds = {
            "yeast": numbers | {"class": factor},
            "white_wine": numbers,
            "heart_cleveland": numbers | levels,
            "mushroom": levels | {"veil-type": ["p"] * 60},
        }
        made = pd.DataFrame(kinds.get(name, levels))
        return made.astype({column: object for column in made if column in levels or column == "veil-type"})

    monkeypatch.setattr(datasets, "fetch_uci", table)
    sets._blocks.cache_clear()
    yield str(tmp_path)
    sets._blocks.cache_clear()


CELLS = list(dict.fromkeys(cell for name in TABLES for cell in cells_of(name, None, (0,))))


@pytest.mark.parametrize("data", sorted({cell.data for cell in CELLS}))
def test_every_cell_of_every_table_runs(data, folder, tmp_path):
    metrics = {}
    for table in TABLES.values():
        for column in table.columns:
            key = (column.data, column.mechanism, column.missing)
            metrics.setdefault(key, set()).add(report.metric_name(column, "rms"))
    for cell in (cell for cell in CELLS if cell.data == data):
        line = execute(cell, TINY, folder, tmp_path / "kept")
        assert metrics[cell[:3]] <= set(line["scores"]), cell
        assert all(math.isfinite(value) for value in line["scores"].values()), cell
        assert line["scale"] == "quick"
        json.dumps(line)
    assert not list((tmp_path / "kept").iterdir())  # finished cells need no checkpoint


def test_no_method_sees_the_hidden_truth(folder):
    data = sets.load("mnist_pairs", "MCAR", 0.5, 0, folder, 40)
    shown = sets.hide(data.train, data.train_mask)
    for j, name in enumerate(data.train):
        assert np.isnan(shown[name][~data.train_mask[:, j]]).all()
        assert (shown[name][data.train_mask[:, j]] == data.train[name][data.train_mask[:, j]]).all()
    shuffled = data._replace(
        test={
            name: np.where(data.test_mask[:, j].reshape(-1, 1, 1), block, np.random.default_rng(1).permutation(block))
            for j, (name, block) in enumerate(data.test.items())
        }
    )
    for method in ("VSAE", FLOOR):
        if method == FLOOR:
            a, b = (cells._other(Cell("mnist_pairs", "MCAR", 0.5, method, 0), TINY, d) for d in (data, shuffled))
        else:
            a, b = (deep.fit(method, d, epochs=1, n_samples=5, seed=0).completed for d in (data, shuffled))
        for j, name in enumerate(a):
            np.testing.assert_array_equal(a[name][~data.test_mask[:, j]], b[name][~data.test_mask[:, j]])


def test_hidden_known_attributes_choose_the_epoch_of_blocks_alone(folder):
    blocks = sets.load("mnist_pairs", "MCAR", 0.5, 0, folder, 60)
    table = sets.load("yeast", "MCAR", 0.5, 0, folder, 60)
    options = {"epochs": 2, "n_samples": 5, "seed": 0}
    # An error is positive, and so is its own of the kept epoch, which hides cells in other patterns.
    chosen = deep.fit("VSAE", blocks._replace(validation_fraction=0.3), **options).history
    assert max(chosen.score) == chosen.score[chosen.best_epoch]
    assert -max(chosen.score) == pytest.approx(chosen.imputation_error, rel=0.5)
    bound = deep.fit("VSAE", table._replace(validation_fraction=0.3), **options).history
    assert -max(bound.score) > 2 * bound.imputation_error


@pytest.mark.parametrize(
    ("method", "epochs", "phase_1"),
    [
        ("VSAE", None, 100), ("VSAE with long phase 1", None, 500), ("VSAE", 5, 1), ("VSAE with long phase 1", 5, 2),
        ("VAE", 5, 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("patience", [None, 3])
def test_phase_1_takes_its_share_of_the_epochs_and_patience_begins_after_it(
    method, epochs, phase_1, patience, folder, monkeypatch
):
    seen = []

    def train(model, x, mask, objective, plan, generator, **options):
        seen.append((getattr(objective, "warmup_epochs", 0), plan.epochs, plan.patience))
        model.eval()
        return History()

    monkeypatch.setattr(deep, "train", train)
    data = sets.load("yeast", "MCAR", 0.5, 0, folder, 60)
    deep.fit(method, data, epochs=epochs, n_samples=2, seed=0, patience=patience)
    assert seen == [(phase_1, epochs or 1000, None if patience is None else patience + phase_1)]


def test_runs_that_end_by_patience_stand_apart():
    assert Scale().name == "full"
    assert Scale(patience=100).name == "full, patience 100"
    assert Scale(epochs=40, patience=9).name == "40 epochs, patience 9"
    assert QUICK.name == "quick"
    name = cells.model_name(Cell("yeast", "MAR", 0.5, "VAE", 1), Scale(patience=9))
    assert name == "yeast-MAR-0.5-VAE-1-full-patience-9"


def test_scores_are_the_hand_worked_ones():
    truth = {"a": np.array([[0], [51], [102]], dtype=np.uint8), "label": np.array(["x", "y", "y"], dtype=object)}
    mask = np.array([[True, False], [False, False], [False, True]])
    completed = {"a": np.array([[0.0], [0.0], [102.0]]), "label": np.array(["x", "x", "y"], dtype=object)}
    data = sets.Data(truth, mask, truth, mask, {}, 0.2, "")
    found = cells.scores(data, completed)
    assert found == {"MSE of a": pytest.approx(0.02), "sum of MSE": pytest.approx(0.02), "PFC": 0.5}


def test_runner_resumes_and_writes_tables_and_figures(folder, tmp_path, monkeypatch, capsys):
    results = tmp_path / "results"
    monkeypatch.setattr(command, "QUICK", TINY)
    arguments = ["paper", "table7", "--quick", "--data", folder, "--results", str(results), "--seeds", "0"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--methods", "VSAE,VAE"])
    command.main()
    lines = report.read(results / report.LINES)
    assert len(lines) == 6
    assert "not run" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", arguments)
    command.main()
    assert report.read(results / report.LINES)[:6] == lines  # what was done is kept
    written = json.loads((results / "paper" / "table7.json").read_text())
    row = next(row for row in written if row["method"] == "VSAE" and row["column"] == "0.5 missing")
    assert row["printed"]["mean"] == 0.1376
    assert row["difference"] == pytest.approx(row["ours"]["mean"] - 0.1376)
    assert "[quick]" in (results / "paper" / "table7.md").read_text()
    for name in figures.FIGURES:
        monkeypatch.setattr(sys, "argv", ["paper", name, *arguments[2:]])
        command.main()
        assert (results / "paper" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table4"], "invalid choice: 'table4'"),
        (["table7", "--methods", "VSEA"], "unknown --methods VSEA; known: "),
        (["table7", "--epochs", "0"], "--epochs must be at least 1"),
        (["table7", "--patience", "0"], "--patience must be at least 1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["paper", *arguments])
    with pytest.raises(SystemExit, match="2"):
        command.main()
    assert message in capsys.readouterr().err


def line(method, seed, value, scale="full", data="yeast", mechanism="MAR", metric="NRMSE rms"):
    return {
        "data": data, "mechanism": mechanism, "missing": 0.5, "method": method, "seed": seed, "scale": scale,
        "note": "", "scores": {metric: value},
    }  # fmt: skip


def test_report_takes_the_longest_runs_and_never_mixes_scales():
    column = TABLES["table5"].columns[0]
    lines = [line("VAE", 0, 0.9, "40 epochs"), line("VAE", 0, 0.5), line("VAE", 1, 0.7), line("VAE", 2, 0.1, "quick")]
    found, shorter = report.ours(lines, column, "VAE", "rms", None)
    assert found.mean == pytest.approx(0.6)
    assert found.spread == pytest.approx(math.sqrt(0.02))
    assert (found.seeds, found.scale) == (2, "full")
    assert (shorter.mean, shorter.scale) == (0.9, "40 epochs")
    assert report.ours(lines[3:], column, "VAE", "rms", None) == []
    assert report.ours(lines, column, "VAE", "rms", "quick")[0].mean == 0.1
    row = next(r for r in report.rows("table5", lines) if r["method"] == "VAE")
    assert row["difference"] == pytest.approx(0.6 - 0.485)
    assert [own["mean"] for own in row["shorter"]] == [0.9]
    named = ["40 epochs, by the bound", "full, by the bound", "full, patience 9", "40 epochs", "full"]
    lines = [line("VAE", 0, 0.5, scale) for scale in named]
    assert [own.scale for own in report.ours(lines, column, "VAE", "rms", None)] == [named[i] for i in (4, 2, 1, 3, 0)]


def test_methods_are_compared_at_one_scale_and_on_the_same_seeds():
    column = TABLES["table5"].columns[0]
    lines = [line("VSAE", 0, 0.4), line("VSAE", 0, 0.3, "40 epochs"), line("VAE", 0, 0.5, "40 epochs")]
    assert report.paired(lines, column, ("VSAE", "VAE"), "rms") == (0.3, 0.5, 1, "40 epochs")
    lines += [line("VAE", 1, 0.1), line("VAE", 2, 0.7), line("VSAE", 2, 0.2)]
    assert report.paired(lines, column, ("VSAE", "VAE"), "rms") == (0.2, 0.7, 1, "full")
    assert report.paired(lines, column, ("VSAE", "CVAE"), "rms") is None
    lines = [line("HI-VAE", 0, 0.3, "40 epochs"), line(FLOOR, 0, 0.2), line(FLOOR, 1, 0.9)]
    assert report.paired(lines, column, ("HI-VAE", FLOOR), "rms") == (0.3, 0.2, 1, "40 epochs")


def test_report_names_the_nearest_normalisation_and_reversed_orderings():
    lines = []
    for normalization, value in (("std", 0.95), ("range", 0.1), ("rms", 0.48)):
        lines.append(line("VSAE", 0, value, metric=f"NRMSE {normalization}"))
    nearest, distances = report.nearest_normalization(lines)
    assert nearest == "rms"
    assert distances["rms"] == pytest.approx(abs(math.log(0.48 / 0.472)))
    lines += [line("VAE", 0, 0.47), line("CVAE", 0, 0.49)]
    text = report.orderings(lines)
    assert "| VSAE at least as good as VAE | Table 5, Yeast, MAR | 0.4800 | 0.4700 | **the other way** |" in text
    assert "| VSAE at least as good as CVAE | Table 5, Yeast, MAR | 0.4800 | 0.4900 | holds |" in text


def test_cells_of_two_tables_that_share_a_column_are_one():
    shared = set(cells_of("table8")) & set(cells_of("table9"))
    assert len(shared) == 3 * len(methods_of("table8"))
    assert QUICK.name == "quick"
    assert Scale(epochs=40).name == "40 epochs"
    assert Scale().name == "full"
