"""What scikit-learn's own tests hold its imputers to, as far as it applies here."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

import vsae_fast
from tests.test_estimator import mixed_table
from vsae_fast import VSAEImputer

QUICK = {"epochs": 2, "n_samples": 20, "random_state": 0}


def holes(n_rows=60, n_columns=4, share=0.2, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, n_columns)) + rng.normal(size=(n_rows, 1))
    X[rng.random(X.shape) < share] = np.nan
    return X


# ---- impute/tests/test_common.py ------------------------------------------------------------------------------------


def test_missing_values_in_columns_that_had_none_at_fit():
    imputer = VSAEImputer(**QUICK).fit(holes(share=0))
    assert np.isfinite(imputer.transform(holes())).all()


@pytest.mark.parametrize("dtype", ["Int64", "Int16", "UInt8"])
@pytest.mark.parametrize("add_indicator", [False, True])
def test_nullable_integers(dtype, add_indicator):
    count = pd.Series(np.random.default_rng(0).integers(0, 50, 40), dtype=dtype)
    table = pd.DataFrame({"n": count.mask(np.arange(40) % 3 == 0), "x": np.linspace(0, 1, 40)})
    result = VSAEImputer(add_indicator=add_indicator, **QUICK).fit_transform(table)
    assert result["n"].dtype == dtype
    assert list(result.columns) == ["n", "x"] + (["missingindicator_n"] if add_indicator else [])


@pytest.mark.parametrize("add_indicator", [False, True])
def test_feature_names_out_of_a_frame(add_indicator):
    table = pd.DataFrame(holes(), columns=list("abcd")).assign(e=1.0 + np.arange(60) % 2)
    imputer = VSAEImputer(add_indicator=add_indicator, **QUICK)
    result = imputer.fit_transform(table)
    assert list(imputer.get_feature_names_out()) == list(result.columns)
    assert list(result.columns)[:5] == list("abcde")


@pytest.mark.parametrize("kind", ["numpy", "pandas", "polars", "torch"])
@pytest.mark.parametrize("keep", [True, False])
def test_keep_empty_features(kind, keep):
    import polars as pl
    import torch

    X = holes()
    X[:, 1] = np.nan
    frame = pd.DataFrame(X, columns=list("abcd"))
    table = {"numpy": X, "pandas": frame, "polars": pl.from_pandas(frame), "torch": torch.from_numpy(X)}[kind]
    imputer = VSAEImputer(keep_empty_features=keep, **QUICK)
    with pytest.warns(UserWarning, match="without any observed cell"):
        result = imputer.fit_transform(table)
    assert result.shape == (60, 4 if keep else 3)
    names = list("abcd") if kind in ("pandas", "polars") else [f"x{j}" for j in range(4)]
    kept = [name for j, name in enumerate(names) if keep or j != 1]
    assert list(imputer.get_feature_names_out()) == kept
    if kind in ("pandas", "polars"):
        assert list(result.columns) == kept
    assert np.isfinite(np.asarray(result, dtype=float)).all()
    again = imputer.transform(table)
    np.testing.assert_array_equal(np.asarray(again), np.asarray(result))
    draws = imputer.sample(table, 2)
    assert draws[0].shape == result.shape
    assert draws.std().shape == result.shape


@pytest.mark.parametrize("add_indicator", [True, False])
def test_indicator_marks_what_was_missing(add_indicator):
    X = holes()
    result = VSAEImputer(add_indicator=add_indicator, **QUICK).fit_transform(X)
    assert result.shape[1] == (8 if add_indicator else 4)
    if add_indicator:
        np.testing.assert_array_equal(result[:, 4:].astype(bool), np.isnan(X))


def test_indicator_goes_on_to_the_columns_of_fit():
    imputer = VSAEImputer(add_indicator=True, **QUICK).fit(holes())
    assert imputer.transform(holes(share=0)).shape == (60, 8)
    full = VSAEImputer(add_indicator=True, **QUICK).fit(holes(share=0))
    assert full.transform(holes()).shape == (60, 4)


# ---- impute/tests/test_impute.py ------------------------------------------------------------------------------------


def test_shape_and_lists():
    X = holes(10, 2)
    assert VSAEImputer(**QUICK).fit_transform(X.tolist()).shape == (10, 2)


def test_grid_search_over_a_pipeline():
    X, y = holes(), np.random.default_rng(1).normal(size=60)
    pipeline = Pipeline([("imputer", VSAEImputer(**QUICK)), ("model", Ridge())])
    search = GridSearchCV(pipeline, {"imputer__n_samples": [5, 20]}, cv=2).fit(X, y)
    assert search.best_params_["imputer__n_samples"] in (5, 20)
    assert np.isfinite(cross_val_score(make_pipeline(VSAEImputer(**QUICK), Ridge()), X, y, cv=2)).all()


def test_column_transformer_over_a_mixed_frame():
    table = mixed_table()
    encode = ColumnTransformer([("levels", OneHotEncoder(), ["k"])], remainder="passthrough")
    assert make_pipeline(VSAEImputer(**QUICK), encode).fit_transform(table).shape == (120, 5)
    inner = ColumnTransformer([("impute", VSAEImputer(**QUICK), ["a", "b"])], verbose_feature_names_out=False)
    result = inner.set_output(transform="pandas").fit_transform(table)
    assert list(result.columns) == ["a", "b"]
    assert not result.isna().any(axis=None)


def test_pickle():
    X = holes()
    imputer = VSAEImputer(**QUICK).fit(X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(imputer)).transform(X), imputer.transform(X))


def test_input_is_never_written_to():
    X = holes()
    before = X.copy()
    result = VSAEImputer(**QUICK).fit_transform(X)
    np.testing.assert_array_equal(X, before)
    assert not np.shares_memory(result, X)
    X.flags.writeable = False
    np.testing.assert_array_equal(VSAEImputer(**QUICK).fit_transform(X), result)


def test_no_epochs_still_fills():
    assert np.isfinite(VSAEImputer(epochs=0, n_samples=5, random_state=0).fit_transform(holes())).all()


def test_all_missing():
    with pytest.warns(UserWarning, match="without any observed cell"):
        np.testing.assert_array_equal(VSAEImputer(**QUICK).fit_transform(np.full((4, 2), np.nan)), np.zeros((4, 2)))


def test_nothing_missing_returns_the_table():
    X = holes(share=0)
    np.testing.assert_array_equal(VSAEImputer(**QUICK).fit_transform(X), X)


def test_one_feature():
    X = holes(n_columns=1)
    assert np.isfinite(VSAEImputer(**QUICK).fit_transform(X)).all()


def test_expected_values_are_no_draws():
    X = holes()
    imputer = VSAEImputer(**QUICK).fit(X)
    np.testing.assert_array_equal(imputer.transform(X), imputer.transform(X))
    draws = imputer.sample(X, 2, random_state=0)
    assert (draws[0][np.isnan(X)] != draws[1][np.isnan(X)]).mean() > 0.9  # some draws end at a column's limits


def test_rank_one_is_recovered():
    """scikit-learn asks chained regressions for 1e-2; a small network comes to a tenth of the spread."""
    rng = np.random.default_rng(0)
    truth = rng.random((500, 1)) @ rng.random((1, 5))
    hidden = rng.random(truth.shape) < 0.1
    result = VSAEImputer(epochs=60, random_state=0).fit_transform(np.where(hidden, np.nan, truth))
    error = np.sqrt(((result - truth)[hidden] ** 2).mean())
    assert error < 0.2 * truth[hidden].std()


@pytest.mark.parametrize(
    ("limits", "low", "high"),
    [
        ({}, None, None),
        ({"min_value": -0.1, "max_value": 0.1}, [-0.1] * 4, [0.1] * 4),
        ({"min_value": [-0.1, -0.2, -0.3, -0.4], "max_value": np.array([0.1, 0.2, 0.3, 0.4])},
         [-0.1, -0.2, -0.3, -0.4], [0.1, 0.2, 0.3, 0.4]),
        ({"max_value": {"b": 0.05}}, None, [np.inf, 0.05, np.inf, np.inf]),
        ({"min_value": {0: 0.0}}, [0.0, -np.inf, -np.inf, -np.inf], None),
    ],
)  # fmt: skip
def test_limits_of_imputed_values(limits, low, high):
    X = holes()
    table = pd.DataFrame(X, columns=list("abcd"))
    imputer = VSAEImputer(**limits, **QUICK).fit(table)
    observed = np.nanmin(X, axis=0), np.nanmax(X, axis=0)
    for result in (imputer.transform(table), imputer.sample(table, 1)[0]):
        for j, name in enumerate("abcd"):
            filled = result[name][np.isnan(X[:, j])]
            least = max(low[j], -np.inf) if low and np.isfinite(low[j]) else observed[0][j]
            most = high[j] if high and np.isfinite(high[j]) else observed[1][j]
            assert filled.between(least, most).all()
        np.testing.assert_array_equal(result.to_numpy()[~np.isnan(X)], X[~np.isnan(X)])


def test_limits_hold_after_rounding_and_may_be_wider_than_the_data():
    count = np.random.default_rng(0).integers(0, 10, 80).astype(float)
    table = pd.DataFrame({"n": pd.Series(count, dtype="Int64").mask(np.arange(80) % 2 == 0), "x": count})
    capped = VSAEImputer(max_value={"n": 3.7}, **QUICK).fit_transform(table)
    assert capped["n"][table["n"].isna()].max() <= 3
    wide = VSAEImputer(min_value=-100, max_value=100, **QUICK).fit(table)
    assert wide.schema_.columns[0].low == -100.0


def test_limits_of_a_categorical_column_are_refused():
    with pytest.raises(ValueError, match="min_value names column 'k', which is categorical; leave it out"):
        VSAEImputer(min_value={"k": 0}, **QUICK).fit(mixed_table())
    VSAEImputer(min_value=-50, **QUICK).fit(mixed_table())  # a single number is for the numerical columns


def test_global_generators_are_left_alone():
    state = np.random.get_state()[1].copy()
    VSAEImputer(**QUICK).fit_transform(holes())
    assert (np.random.get_state()[1] == state).all()


# ---- what scikit-learn's encoders offer -----------------------------------------------------------------------------


def test_unknown_levels_may_be_refused():
    table = mixed_table()
    imputer = VSAEImputer(handle_unknown="error", **QUICK).fit(table)
    assert not imputer.transform(table).isna().any(axis=None)
    new = table.iloc[:4].assign(k=["sideways", "up", None, "across"])
    for method in (imputer.transform, imputer.sample, imputer.score_samples):
        with pytest.raises(ValueError, match=r"'k' holds levels that were not there at fit: 'across', 'sideways'; use"):
            method(new)


def test_effective_sample_size(monkeypatch):
    X = holes()
    imputer = VSAEImputer(**{**QUICK, "n_samples": 100}).fit(X)
    size = imputer.effective_sample_size(X)
    assert size.shape == (60,)
    assert ((size >= 1) & (size <= 100)).all()
    one = imputer.effective_sample_size(X[7:8])
    np.testing.assert_array_equal(one, size[7:8])


def test_wrapped_in_a_pipeline_with_other_transformers():
    X = holes()
    identity = FunctionTransformer(feature_names_out="one-to-one")
    pipeline = make_pipeline(identity, VSAEImputer(**QUICK))
    assert np.isfinite(pipeline.fit_transform(X)).all()
    assert list(pipeline.get_feature_names_out([f"f{j}" for j in range(4)])) == ["f0", "f1", "f2", "f3"]


def test_impute_takes_the_new_parameters():
    X = holes()
    assert vsae_fast.impute(X, min_value=0, **QUICK)[np.isnan(X)].min() >= 0
