import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from tests import tolerances
from vsae_fast.missingness import ampute

MECHANISMS = [("MCAR", {}), ("MAR", {}), ("MNAR", {}), ("MNAR", {"mnar": "logistic"})]


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    return rng.normal(size=(4000, 6)) @ rng.normal(size=(6, 6)) + 100


def standard_error(p, n):
    return np.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize(("mechanism", "options"), MECHANISMS)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_rate(X, mechanism, options, p):
    before = X.copy()
    amputed, mask = ampute(X, mechanism, p, random_state=0, **options)
    np.testing.assert_array_equal(X, before)
    np.testing.assert_array_equal(np.isnan(amputed), ~mask)
    np.testing.assert_array_equal(amputed[mask], X[mask])
    losing = (~mask).any(axis=0)
    assert losing.sum() == (4 if mechanism == "MAR" else 6)
    rates = (~mask)[:, losing].mean(axis=0)
    assert (np.abs(rates - p) < tolerances.STANDARD_ERRORS * standard_error(p, len(X))).all()


def test_mcar_depends_on_nothing(X):
    _, mask = ampute(X, "MCAR", 0.5, random_state=0)
    for j in range(6):
        for i in range(6):
            gap = X[mask[:, j], i].mean() - X[~mask[:, j], i].mean()
            assert abs(gap) < tolerances.STANDARD_ERRORS * 2 * X[:, i].std() / np.sqrt(len(X))


def test_mar_depends_on_the_columns_that_are_always_observed(X):
    _, mask = ampute(X, "MAR", 0.5, random_state=0)
    drivers = np.flatnonzero(mask.all(axis=0))
    standardised = (X - X.mean(axis=0)) / X.std(axis=0)
    for j in np.flatnonzero(~mask.all(axis=0)):
        gaps = [standardised[mask[:, j], i].mean() - standardised[~mask[:, j], i].mean() for i in drivers]
        assert np.abs(gaps).max() > 0.2
        # Given the drivers the column's own value says nothing more: regress it out and compare what is left.
        design = np.column_stack([standardised[:, drivers], np.ones(len(X))])
        rest = X[:, j] - design @ np.linalg.lstsq(design, X[:, j], rcond=None)[0]
        gap = rest[mask[:, j]].mean() - rest[~mask[:, j]].mean()
        assert abs(gap) < tolerances.STANDARD_ERRORS * 2 * rest.std() / np.sqrt(len(X))


def test_self_masking_depends_on_the_cell_itself(X):
    _, mask = ampute(X, "MNAR", 0.5, random_state=0)
    gaps = [(X[mask[:, j], j].mean() - X[~mask[:, j], j].mean()) / X[:, j].std() for j in range(6)]
    assert np.median(np.abs(gaps)) > 0.3


def test_logistic_mnar_hides_its_drivers_too(X):
    _, mask = ampute(X, "MNAR", 0.3, mnar="logistic", random_state=0)
    assert (~mask).any(axis=0).all()


@pytest.mark.parametrize(("mechanism", "options"), MECHANISMS)
def test_seeded(X, mechanism, options):
    first = ampute(X, mechanism, 0.4, random_state=1, **options).mask
    np.testing.assert_array_equal(first, ampute(X, mechanism, 0.4, random_state=1, **options).mask)
    assert (first != ampute(X, mechanism, 0.4, random_state=2, **options).mask).any()


def test_frames_keep_their_type():
    table = pd.DataFrame(
        {"i": np.arange(60), "b": [True, False] * 30, "s": ["x", "y", "z"] * 20,
         "c": pd.Categorical(["p", "q"] * 30), "f": np.linspace(0, 1, 60)},
        index=np.arange(60) % 7,
    )  # fmt: skip
    for mechanism, options in MECHANISMS:
        amputed, mask = ampute(table, mechanism, 0.4, random_state=0, **options)
        assert amputed.index.equals(table.index)
        np.testing.assert_array_equal(amputed.isna(), ~mask)
    amputed, _ = ampute(table, "MCAR", 0.4, random_state=0)
    assert [str(t) for t in amputed.dtypes] == ["Int64", "boolean", str(table["s"].dtype), "category", "float64"]
    frame, mask = ampute(pl.from_pandas(table.reset_index(drop=True)), "MAR", 0.4, random_state=0)
    assert frame.schema["i"] == pl.Int64
    np.testing.assert_array_equal(np.column_stack([c.is_null().to_numpy() for c in frame]), ~mask)


def test_arrays_of_integers_objects_and_tensors():
    integers = np.arange(60).reshape(20, 3)
    amputed, mask = ampute(integers, random_state=0)
    assert amputed.dtype == np.float64
    objects = integers.astype(object)
    amputed, mask = ampute(objects, random_state=0)
    assert amputed[~mask].tolist() == [None] * (~mask).sum()
    tensor, mask = ampute(torch.from_numpy(integers), random_state=0)
    np.testing.assert_array_equal(tensor.isnan().numpy(), ~mask)


def test_cells_that_were_missing_stay_so(X):
    X[::3, 1] = np.nan
    for mechanism, options in MECHANISMS:
        amputed, mask = ampute(X, mechanism, 0.3, random_state=0, **options)
        assert np.isnan(amputed[::3, 1]).all()
        assert not mask[::3, 1].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mechanism": "MACR"}, "unknown mechanism 'MACR'; use one of"),
        ({"p": 0.0}, "p must be between 0 and 1"),
        ({"p": 1.0}, "p must be between 0 and 1"),
        ({"mechanism": "MNAR", "mnar": "own"}, "unknown mnar 'own'"),
        ({"observed_share": 1.0}, "observed_share"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ampute(np.ones((5, 2)), **arguments)


def test_mar_needs_two_columns():
    with pytest.raises(ValueError, match="at least two columns"):
        ampute(np.ones((5, 1)), "MAR")
    with pytest.raises(ValueError, match="infinity in column"):
        ampute(np.full((5, 2), np.inf))
