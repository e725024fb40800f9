import copy

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import estimator_checks_generator

from vsae_fast import VSAEImputer, impute
from vsae_fast.imputation import noise_table

QUICK = {"epochs": 2, "n_samples": 20, "random_state": 0}


def mixed_table(n_rows=120, seed=0):
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=n_rows)
    table = pd.DataFrame(
        {
            "a": factor + 0.3 * rng.normal(size=n_rows),
            "b": 5 - 2 * factor + 0.3 * rng.normal(size=n_rows),
            "k": np.where(factor > 0, "up", "down"),
            "n": np.round(10 * factor).astype(int),
        }
    )
    return table.mask(rng.random(table.shape) < 0.3)


@pytest.fixture(scope="module")
def table():
    return mixed_table()


@pytest.fixture(scope="module")
def fitted(table):
    return VSAEImputer(**QUICK).fit(table)


def _checks():
    # One check needs SCIPY_ARRAY_API=1 in the environment before scipy is imported; it is skipped like scikit-learn's.
    for estimator, check in estimator_checks_generator(VSAEImputer(epochs=2, random_state=0)):
        name = getattr(check, "func", check).__name__
        yield pytest.param(estimator, check, id=name)


@pytest.mark.parametrize(("estimator", "check"), list(_checks()))
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_rows_are_imputed_alone(table, fitted):
    """check_estimator feeds no missing cell, so it does not see what an imputer could do wrong here."""
    whole = fitted.transform(table)
    order = np.random.default_rng(0).permutation(len(table))
    pd.testing.assert_frame_equal(fitted.transform(table.iloc[order]), whole.iloc[order], check_exact=True)
    for i in range(0, len(table), 17):
        pd.testing.assert_frame_equal(fitted.transform(table.iloc[[i]]), whole.iloc[[i]], check_exact=True)
    for size in (7, 50):
        parts = [fitted.transform(table.iloc[i : i + size]) for i in range(0, len(table), size)]
        pd.testing.assert_frame_equal(pd.concat(parts), whole, check_exact=True)


def test_a_device_that_runs_out_of_memory_takes_fewer_rows_at_once(table, fitted, monkeypatch, caplog):
    from vsae_fast.imputation import RowImputer

    expected = fitted.transform(table)
    chunk, sizes = RowImputer._chunk, []

    def small(self, x, *rest):
        sizes.append(len(x))
        if len(x) > 40:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return chunk(self, x, *rest)

    monkeypatch.setattr(RowImputer, "_chunk", small)
    pd.testing.assert_frame_equal(fitted.transform(table), expected, check_exact=True)
    assert max(sizes[-2:]) <= 40
    assert "out of memory; going on with 32 rows at a time" in caplog.text
    monkeypatch.setattr(RowImputer, "_chunk", lambda self, x, *rest: small(self, x.repeat(99, 1), *rest))
    with pytest.raises(torch.OutOfMemoryError):
        fitted.transform(table)


@pytest.mark.parametrize("n_jobs", [1, 2, -1])
def test_threads_change_nothing(table, fitted, n_jobs):
    other = clone(fitted).set_params(n_jobs=n_jobs).fit(table)
    pd.testing.assert_frame_equal(other.transform(table), fitted.transform(table), check_exact=True)


def test_fit_transform_is_fit_then_transform(table, fitted):
    expected = fitted.transform(table)
    pd.testing.assert_frame_equal(VSAEImputer(**QUICK).fit_transform(table), expected, check_exact=True)
    pd.testing.assert_frame_equal(impute(table, **QUICK), expected, check_exact=True)


def test_transform_changes_nothing_and_can_be_repeated(table, fitted):
    first = fitted.transform(table)
    pd.testing.assert_frame_equal(fitted.transform(table), first, check_exact=True)


def test_kernel_and_reference_agree(table, fitted):
    by_reference = copy.deepcopy(fitted).set_params(backend="reference")
    expected = fitted.transform(table)
    result = by_reference.transform(table)
    for name in ("a", "b"):
        np.testing.assert_allclose(result[name], expected[name], rtol=1e-4, atol=1e-4)


def test_presets_run(table):
    result = VSAEImputer(preset="paper", **QUICK).fit_transform(table)
    assert not result.isna().any(axis=None)


def test_sampler_fills_and_tolerance_change_the_sampling_alone(table):
    imputer = VSAEImputer(preset="paper", epochs=2, random_state=0, n_samples=960).fit(table)
    plain = imputer.transform(table)
    assert plain.equals(imputer.set_params(sampler="iid").transform(table))
    for options in ({"sampler": "sobol"}, {"sampler": "antithetic"}, {"n_fills": 7}, {"tolerance": 0.5}):
        imputer.set_params(sampler=None, n_fills=1, tolerance=0.0)
        other = imputer.set_params(**options).transform(table)
        assert not other.isna().any(axis=None)
        assert not other.equals(plain), options


@pytest.mark.parametrize("seed", [0, np.random.RandomState(3), None])
def test_random_state(table, seed):
    legacy = np.random.get_state()[1].copy()
    state = torch.get_rng_state()
    VSAEImputer(epochs=1, n_samples=5, random_state=seed).fit(table)
    assert torch.equal(torch.get_rng_state(), state)
    if seed is not None:  # None draws one number from NumPy's global generator, as everywhere in scikit-learn
        assert (np.random.get_state()[1] == legacy).all()


def test_one_row_no_hole_all_holes(fitted, table):
    complete = fitted.transform(table).iloc[:3]
    pd.testing.assert_frame_equal(fitted.transform(complete), complete, check_exact=True)
    blank = table.iloc[:2].copy()
    blank[:] = np.nan
    result = fitted.transform(blank)
    assert not result.isna().any(axis=None)
    pd.testing.assert_series_equal(result.iloc[0], result.iloc[1], check_names=False)
    assert len(fitted.transform(table.iloc[[0]])) == 1


def test_calls_of_another_kind_make_no_noise_anew(fitted, table):
    """For one row the tables of an ensemble took a quarter of the time, and most of it beside other work."""
    fitted.transform(table.iloc[[0]])
    before = noise_table.cache_info()
    fitted.score_samples(table.iloc[[0]])
    after = noise_table.cache_info()
    assert (after.misses, after.hits - before.hits) == (before.misses, len(fitted.models_))


def test_a_column_complete_at_fit_may_have_holes_later(table):
    at_fit = table.assign(full=np.arange(len(table)) % 7 * 1.5)
    imputer = VSAEImputer(**QUICK).fit(at_fit)
    later = at_fit.copy()
    later.loc[3, "full"] = np.nan
    assert np.isfinite(imputer.transform(later).loc[3, "full"])


@pytest.mark.parametrize("size", [1e6, 1e30, 1e39, 1e300])
def test_numbers_far_outside_leave_no_hole(size):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 1)) + 0.5 * rng.normal(size=(150, 4))
    X[rng.random(X.shape) < 0.2] = np.nan
    imputer = VSAEImputer(**QUICK).fit(X)
    new = np.full((4, 4), np.nan)
    new[0, 0], new[1, 1], new[2, :2] = size, -size, (size, -size)
    for completed in (imputer.transform(new), imputer.sample(new, 1)[0]):
        assert np.isfinite(completed).all()
        assert completed[2, :2].tolist() == [size, -size]
    assert np.isfinite(imputer.score_samples(new)).all()


def test_unseen_level_is_kept_and_treated_as_missing(table, fitted):
    new = table.iloc[:4].copy()
    new["k"] = ["sideways", "up", "sideways", None]
    with pytest.warns(UserWarning, match=r"not seen at fit are treated as missing: k \(2 cells\)") as caught:
        result = fitted.transform(new)
    assert [warning.filename for warning in caught] == [__file__]
    assert result["k"].tolist()[:3] == ["sideways", "up", "sideways"]
    blank = new.assign(k=[None, "up", None, None])
    pd.testing.assert_frame_equal(fitted.transform(blank)[["a", "b", "n"]], result[["a", "b", "n"]], check_exact=True)


def test_fewer_levels_later(table, fitted):
    only_up = table[table["k"] == "up"]
    assert set(fitted.transform(only_up)["k"]) == {"up"}


def test_set_output(table):
    X = table[["a", "b"]].to_numpy()
    as_pandas = VSAEImputer(**QUICK).set_output(transform="pandas").fit_transform(X)
    assert isinstance(as_pandas, pd.DataFrame)
    assert list(as_pandas.columns) == ["x0", "x1"]
    as_polars = VSAEImputer(**QUICK).set_output(transform="polars").fit_transform(table[["a", "b"]])
    assert type(as_polars).__module__.startswith("polars")


@pytest.mark.parametrize("kind", ["pandas", "numpy", "torch"])
def test_indicator(table, kind):
    numbers = table[["a", "b"]].assign(full=1.0 + np.arange(len(table)) % 5)
    X = {"pandas": numbers, "numpy": numbers.to_numpy(), "torch": torch.from_numpy(numbers.to_numpy())}[kind]
    imputer = VSAEImputer(add_indicator=True, **QUICK)
    result = imputer.fit_transform(X)
    assert result.shape[1] == 5
    names = imputer.get_feature_names_out()
    prefix = ["a", "b", "full"] if kind == "pandas" else ["x0", "x1", "x2"]
    assert list(names) == [*prefix, f"missingindicator_{prefix[0]}", f"missingindicator_{prefix[1]}"]
    indicator = np.asarray(result)[:, 3:].astype(bool)
    np.testing.assert_array_equal(indicator, numbers[["a", "b"]].isna())
    if kind == "pandas":
        assert list(result.columns) == list(names)


def test_feature_names(fitted):
    assert list(fitted.get_feature_names_out()) == ["a", "b", "k", "n"]
    assert list(fitted.get_feature_names_out(["a", "b", "k", "n"])) == ["a", "b", "k", "n"]
    with pytest.raises(ValueError, match="feature_names_in_"):
        fitted.get_feature_names_out(["a", "b", "k", "m"])


def test_in_a_pipeline():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3))
    y = X.sum(axis=1)
    X[rng.random(X.shape) < 0.2] = np.nan
    assert make_pipeline(VSAEImputer(**QUICK), LinearRegression()).fit(X, y).score(X, y) > 0


def test_score_samples_is_lower_for_strange_rows(table):
    imputer = VSAEImputer(epochs=30, n_samples=200, random_state=0).fit(table)
    usual = imputer.score_samples(table)
    assert usual.shape == (len(table),)
    assert usual.dtype == np.float64
    strange = imputer.score_samples(table.assign(a=table["a"] + 40.0))
    seen = table["a"].notna().to_numpy()
    assert np.median(strange[seen]) < np.median(usual[seen])
    np.testing.assert_array_equal(strange[~seen], usual[~seen])
    assert imputer.score(table) == pytest.approx(usual.mean())


def test_constructor_stores_its_arguments_untouched(table):
    schema = {"a": "numerical"}
    imputer = VSAEImputer(schema=schema, **QUICK).fit(table)
    assert imputer.get_params()["schema"] is schema
    assert imputer.get_params()["epochs"] == 2


def test_learns_a_dependence():
    """Two columns of one factor: the hole is filled from its neighbour, not with the mean."""
    rng = np.random.default_rng(0)
    factor = rng.normal(size=500)
    X = np.stack([factor, -factor + 0.1 * rng.normal(size=500), rng.normal(size=500)], axis=1)
    hidden = rng.random(500) < 0.3
    incomplete = X.copy()
    incomplete[hidden, 0] = np.nan
    result = impute(incomplete, random_state=0, epochs=60)
    error = np.sqrt(np.mean((result[hidden, 0] - X[hidden, 0]) ** 2))
    assert error < 0.35 * X[hidden, 0].std()
