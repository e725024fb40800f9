import sys

import numpy as np
import pandas as pd
import pytest

from vsae_fast.plots import plot_distributions


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return pd.DataFrame({"x": rng.normal(size=50), "k": rng.choice(["a", "b"], 50), "full": rng.normal(size=50)})


@pytest.fixture
def mask(table):
    mask = np.random.default_rng(1).random(table.shape) < 0.5
    mask[:, 2] = True
    return mask


def visible(figure):
    return [axes for axes in figure.axes if axes.get_visible()]


def test_one_panel_per_column_with_holes(table, mask, tmp_path):
    figure = plot_distributions(table, mask)
    assert [axes.get_title() for axes in visible(figure)] == ["x", "k"]
    number, level = visible(figure)
    assert number.get_legend_handles_labels()[1] == ["observed", "imputed"]
    areas = [sum(p.get_height() * p.get_width() for p in container) for container in number.containers]
    assert areas == pytest.approx([1.0, 1.0])
    share = [p.get_height() for p in level.containers[0]]
    seen = table["k"][mask[:, 1]]
    assert share == pytest.approx([(seen == "a").mean(), (seen == "b").mean()])
    figure.savefig(tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 5000


def test_chosen_columns(table, mask):
    assert [a.get_title() for a in visible(plot_distributions(table, mask, columns=["full", "k"]))] == ["k", "full"]
    assert len(visible(plot_distributions(table, mask, max_columns=1))) == 1


def test_nothing_to_show(table, mask):
    with pytest.raises(ValueError, match="no column to show"):
        plot_distributions(table, np.ones_like(mask))
    with pytest.raises(ValueError, match="no column to show"):
        plot_distributions(table, mask, columns=["y"])


def test_matplotlib_is_optional(table, mask, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install vsae_fast\[plot\]"):
        plot_distributions(table, mask)
