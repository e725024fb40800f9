import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch

from tests.test_estimator import mixed_table
from vsae_fast import VSAEImputer, plot

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

QUICK = {"epochs": 3, "n_samples": 50, "random_state": 0, "n_models": 1}


@pytest.fixture(autouse=True)
def _never_shown(monkeypatch):
    monkeypatch.setattr(plt, "show", lambda *args, **kwargs: pytest.fail("a picture was shown"))
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def incomplete():
    return mixed_table()


@pytest.fixture(scope="module")
def fitted(incomplete):
    return VSAEImputer(**QUICK).fit(incomplete)


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return pd.DataFrame({"x": rng.normal(size=50), "k": rng.choice(["a", "b"], 50), "full": rng.normal(size=50)})


@pytest.fixture
def mask(table):
    mask = np.random.default_rng(1).random(table.shape) < 0.5
    mask[:, 2] = True
    return mask


DRAWN = {
    "missingness": lambda imputer, X, ax: plot.missingness(X, ax=ax),
    "co_missingness": lambda imputer, X, ax: plot.co_missingness(X, ax=ax),
    "overimputation": lambda imputer, X, ax: plot.overimputation(imputer, X, "a", n_imputations=10, ax=ax),
    "training": lambda imputer, X, ax: plot.training(imputer, ax=ax),
    "effective_sample_size": lambda imputer, X, ax: plot.effective_sample_size(imputer, X, ax=ax),
    "latent": lambda imputer, X, ax: plot.latent(imputer, X, color_by="k", ax=ax),
}


@pytest.mark.parametrize("name", DRAWN)
def test_draws_into_given_axes_or_its_own(name, fitted, incomplete, tmp_path):
    own = DRAWN[name](fitted, incomplete, None)
    assert isinstance(own, Axes)
    assert own.get_xlabel() or own.get_title()
    _, given = plt.subplots()
    assert DRAWN[name](fitted, incomplete, given) is given
    own.figure.savefig(tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 5000


def test_all_functions_are_tried():
    assert {*DRAWN, "distributions"} == set(plot.__all__)


# ---- missing cells --------------------------------------------------------------------------------------------------


def test_missingness_shows_every_cell_and_the_shares(table, mask):
    ax = plot.missingness(table, mask)
    np.testing.assert_array_equal(ax.images[0].get_array(), ~mask)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["x", "k", "full"]
    (top,) = ax.child_axes
    shares = [f"{share:.0%}" for share in 1 - mask.mean(axis=0)]
    assert [tick.get_text() for tick in top.get_xticklabels()] == shares


def test_missingness_of_a_long_table_shows_shares_of_neighbouring_rows():
    X = np.zeros((3000, 2))
    X[:1500, 0] = np.nan
    lines = plot.missingness(X).images[0].get_array()
    assert lines.shape == (300, 2)
    np.testing.assert_allclose(lines[:, 0], [1.0] * 150 + [0.0] * 150)
    assert (lines[:, 1] == 0).all()


def test_many_columns_have_no_labels():
    X = np.where(np.random.default_rng(0).random((10, 100)) < 0.5, np.nan, 1.0)
    assert plot.missingness(X).get_xlabel() == "100 columns"
    assert plot.co_missingness(X).images[0].get_array().shape == (100, 100)


def test_co_missingness_is_conditional():
    X = np.array([[np.nan, np.nan, 1], [np.nan, 1, 1], [1, 1, 1.0]])
    ax = plot.co_missingness(X)
    np.testing.assert_allclose(ax.images[0].get_array(), [[1, 0.5], [1, 1]])
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["x0", "x1"]
    with pytest.raises(ValueError, match="no cell is missing"):
        plot.co_missingness(np.ones((3, 2)))


# ---- imputed cells --------------------------------------------------------------------------------------------------


def test_distributions_has_one_panel_per_column_with_holes(table, mask):
    panels = plot.distributions(table, mask)
    assert [axes.get_title() for axes in panels] == ["x", "k"]
    number, level = panels
    assert number.get_legend_handles_labels()[1] == ["observed", "imputed"]
    areas = [sum(p.get_height() * p.get_width() for p in container) for container in number.containers]
    assert areas == pytest.approx([1.0, 1.0])
    share = [p.get_height() for p in level.containers[0]]
    seen = table["k"][mask[:, 1]]
    assert share == pytest.approx([(seen == "a").mean(), (seen == "b").mean()])


def test_chosen_columns(table, mask):
    assert [a.get_title() for a in plot.distributions(table, mask, columns=["full", "k"])] == ["k", "full"]
    assert len(plot.distributions(table, mask, max_columns=1)) == 1


def test_nothing_to_show(table, mask):
    with pytest.raises(ValueError, match="no column to show"):
        plot.distributions(table, np.ones_like(mask))
    with pytest.raises(ValueError, match="no column to show"):
        plot.distributions(table, mask, columns=["y"])


def test_overimputation_counts_what_it_shows(fitted, incomplete):
    ax = plot.overimputation(fitted, incomplete, "a", share=0.5, n_imputations=19, level=0.9)
    n_known = incomplete["a"].notna().sum()
    n_hidden = round(0.5 * n_known)
    assert f"of {n_hidden} hidden cells lie in their 90% interval" in ax.get_title()
    inside, outside = (container.lines[0].get_xdata() for container in ax.containers)
    assert len(inside) + len(outside) == n_hidden
    assert ax.get_title().startswith(f"{len(inside) / n_hidden:.0%} of")
    truth = incomplete["a"].dropna().to_numpy()
    assert np.isin(np.concatenate([inside, outside]), truth).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("k",), "'k' is categorical; choose a numerical one"),
        (("height",), "there is no column 'height'"),
        (("a", None), None),
    ],
)
def test_bad_columns_of_overimputation(fitted, incomplete, arguments, message):
    if message is None:
        with pytest.raises(ValueError, match="share must be above 0"):
            plot.overimputation(fitted, incomplete, *arguments, share=0)
        blank = incomplete.assign(a=np.nan)
        with pytest.raises(ValueError, match="'a' has no known cell"):
            plot.overimputation(fitted, blank, "a")
    else:
        with pytest.raises(ValueError, match=message):
            plot.overimputation(fitted, incomplete, *arguments)


# ---- the model ------------------------------------------------------------------------------------------------------


def test_training_draws_every_network_and_marks_the_epochs_kept(fitted):
    ax = plot.training(fitted)
    curves = [line for line in ax.lines if len(line.get_xdata()) > 1]
    points = [line for line in ax.lines if len(line.get_xdata()) == 1]
    assert len(curves) == len(points) == len(fitted.history_)
    assert [p.get_xdata()[0] for p in points] == [history.best_epoch + 1 for history in fitted.history_]
    np.testing.assert_array_equal(curves[0].get_ydata(), fitted.history_[0].score)


def test_latent_colours(fitted, incomplete):
    assert len(plot.latent(fitted, incomplete).collections) == 1
    by_level = plot.latent(fitted, incomplete, color_by="k")
    assert [text.get_text() for text in by_level.get_legend().get_texts()] == ["down", "up"]
    counts = [len(c.get_offsets()) for c in by_level.collections]
    assert counts == [incomplete["k"].isna().sum(), *incomplete["k"].value_counts()[["down", "up"]]]
    assert plot.latent(fitted, incomplete, color_by="a").figure.axes[-1].get_ylabel() == "a"
    with pytest.raises(ValueError, match="no column 'height'"):
        plot.latent(fitted, incomplete, color_by="height")


def test_embed_is_one_row_at_a_time(fitted, incomplete):
    whole = fitted.embed(incomplete)
    assert whole.shape == (120, fitted.models_[0].n_latent)
    np.testing.assert_array_equal(fitted.embed(incomplete.iloc[[5]]), whole[[5]])
    assert torch.from_numpy(whole).dtype == torch.float32


def test_without_a_network():
    with pytest.warns(UserWarning, match="kept out of the model"):
        imputer = VSAEImputer(**QUICK).fit(np.array([[1.0, np.nan], [1.0, np.nan]]))
    with pytest.raises(ValueError, match="no network was trained"):
        plot.training(imputer)
    with pytest.raises(ValueError, match="no network was trained"):
        plot.latent(imputer, np.array([[1.0, np.nan]]))


def test_matplotlib_is_optional(table, mask, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install 'vsae_fast\[plot\]'"):
        plot.distributions(table, mask)


def test_times_have_dates_on_their_axes(table):
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(50) * 10, unit="D")
    dated = table.assign(day=days, wait=pd.to_timedelta(np.arange(50), unit="h")).mask(np.eye(50, 5).astype(bool))
    imputer = VSAEImputer(**QUICK).fit(dated)
    panels = plot.distributions(imputer.transform(dated), dated.notna())
    panels[0].figure.canvas.draw()
    day, wait = (next(p for p in panels if p.get_title() == name) for name in ("day", "wait"))
    assert "2025" in [label.get_text() for label in day.get_xticklabels()]
    assert wait.get_xlabel() == "seconds"
    figure = plot.latent(imputer, dated, color_by="day").figure
    figure.canvas.draw()
    assert "2025" in [label.get_text() for label in figure.axes[1].get_yticklabels()]
