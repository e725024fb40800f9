"""What users see in single columns: functions of each other are found, rare levels survive, counts stay whole."""

import numpy as np
import pandas as pd
import pytest

from vsae_fast import VSAEImputer


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    n = 1500
    a = rng.normal(size=n)
    rare = rng.random(n) < 0.04
    truth = pd.DataFrame(
        {
            "a": a,
            "twice": 3 - 2 * a,
            "squared": a**2,
            "count": pd.array(rng.poisson(2, n), dtype="Int64"),
            "level": np.where(rare, "rare", rng.choice(["x", "y"], n)).astype(object),
            "code": np.where(rare, "r", rng.choice(["u", "v", "w"], n)).astype(object),
        }
    )
    hidden = rng.random(truth.shape) < 0.2
    hidden[:, 0] &= rng.random(n) < 0.5
    return truth, truth.mask(hidden), hidden


@pytest.fixture(scope="module")
def completed(case):
    return VSAEImputer(n_models=1, random_state=0).fit_transform(case[1])


@pytest.mark.parametrize(("column", "error"), [("twice", 0.15), ("squared", 0.4)])
def test_functions_of_another_column_are_found(case, completed, column, error):
    truth, incomplete, hidden = case
    where = hidden[:, truth.columns.get_loc(column)] & incomplete["a"].notna().to_numpy()
    miss = (completed[column] - truth[column])[where]
    assert np.sqrt((miss**2).mean()) < error * truth[column].std()


def test_rare_levels_are_not_erased(case, completed):
    """A level of one row in 25 comes back where another column tells it."""
    _, incomplete, hidden = case
    where = hidden[:, 4] & incomplete["code"].eq("r").to_numpy()
    assert where.sum() >= 5
    assert (completed["level"][where] == "rare").mean() > 0.7
    elsewhere = hidden[:, 4] & incomplete["code"].notna().to_numpy() & ~where
    assert (completed["level"][elsewhere] == "rare").mean() < 0.02


def test_counts_stay_whole_and_in_range(case, completed):
    incomplete = case[1]
    assert completed["count"].dtype == incomplete["count"].dtype
    assert completed["count"].between(incomplete["count"].min(), incomplete["count"].max()).all()
    assert completed["squared"].min() >= 0
