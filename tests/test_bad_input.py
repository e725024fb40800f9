"""Bad input gets a one-line error that names the column or argument and the remedy, and changes nothing."""

import datetime
import decimal
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import torch

import vsae_fast
from vsae_fast import VSAEImputer

QUICK = {"epochs": 1, "n_samples": 5, "random_state": 0}


@pytest.fixture
def X(rng):
    X = rng.normal(size=(30, 3))
    X[rng.random(X.shape) < 0.2] = np.nan
    X[0] = (1.0, np.nan, 2.0)
    return X


def frame(X):
    return pd.DataFrame(X, columns=["height", "weight", "age"])


def with_value(X, value):
    table = frame(X)
    table.loc[3, "weight"] = value
    return table


BAD_TABLES = {
    "no rows": (lambda X: frame(X).iloc[:0], r"0 sample\(s\)"),
    "no columns": (lambda X: frame(X)[[]], r"0 feature\(s\)"),
    "empty array": (lambda X: np.empty((0, 3)), r"0 sample\(s\)"),
    "empty list": (lambda X: [], "Expected 2D array"),
    "ragged": (lambda X: [[1.0, 2.0], [3.0]], "ragged.*same number of cells"),
    "complex array": (lambda X: X + 1j, "Complex data not supported"),
    "complex column": (lambda X: frame(X).assign(z=1j), "Complex data not supported.*'z'"),
    "complex tensor": (lambda X: torch.ones(3, 2, dtype=torch.complex64), "Complex data not supported"),
    "time of day": (lambda X: pl.DataFrame({"x": [1.0], "at": [datetime.time(8)]}), "'at' holds times of day.*numbers"),
    "dates and text": (lambda X: pd.DataFrame({"born": [datetime.date(2024, 1, 1), "1.2.2024"]}), "or times in all"),
    "levels that read alike": (
        lambda X: pd.DataFrame({"born": pd.Categorical([datetime.date(2024, 1, 1), "2024-01-01"])}),
        "'born' has two levels '2024-01-01'.*rename_categories",
    ),
    "time objects": (lambda X: pd.DataFrame({"at": [datetime.time(8)] * 2}), "'at' holds a time.*hours"),
    "decimals": (
        lambda X: pd.DataFrame({"price": [decimal.Decimal(2)] * 2}),
        r"'price' holds a Decimal.*astype\(float",
    ),
    "interval objects": (
        lambda X: pd.DataFrame({"age": pd.Series([pd.Interval(0, 1)] * 2, dtype=object)}),
        "'age' holds an Interval.*'category'",
    ),
    "intervals": (lambda X: pd.DataFrame({"age": pd.interval_range(0, 2)}), "'age' has type interval.*'category'"),
    "periods": (
        lambda X: pd.DataFrame({"month": pd.period_range("2024-01", periods=2, freq="M")}),
        r"'month' has type period\[M\].*to_timestamp",
    ),
    "sparse column": (
        lambda X: pd.DataFrame({"flag": pd.arrays.SparseArray([0.0, 1.0])}),
        r"'flag' has type Sparse.*to_dense",
    ),
    "objects with time zones": (
        lambda X: np.array([[datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)]] * 2, dtype=object),
        "objects with time zones.*to_datetime",
    ),
    "infinite": (lambda X: with_value(X, np.inf), "infinity in column.*weight"),
    "infinite array": (lambda X: np.where(np.isnan(X), -np.inf, X), "infinity in column.*x1"),
    "three dimensions": (lambda X: X[None], "Expected 2D array, got 3D"),
    "one dimension": (lambda X: X[:, 0], "Expected 2D array, got 1D"),
    "text": (lambda X: "table.csv", "Expected 2D array"),
    "repeated names": (lambda X: pd.DataFrame(X, columns=["a", "b", "a"]), "unique; repeated: a"),
    "mixed names": (lambda X: pd.DataFrame(X, columns=["a", 1, "c"]), r"column names mix.*astype\(str\)"),
    "list in a cell": (lambda X: pd.DataFrame({"a": [[1], [2]], "b": [1.0, 2.0]}), "'a' holds a list"),
    "struct column": (lambda X: pl.DataFrame({"s": [{"a": 1}], "b": [1.0]}), "'s'.*cannot be imputed"),
    "sparse": (lambda X: scipy.sparse.eye(3), r"dense data is required.*toarray\(\)"),
    "lazy frame": (lambda X: pl.LazyFrame({"a": [1.0]}), r"pass X\.collect\(\)"),
}

BAD_MASKS = {
    "shape": (lambda X: np.ones((30, 2)), r"mask has shape \(30, 2\), but X has shape \(30, 3\)"),
    "fractions": (lambda X: np.full(X.shape, 0.5), "booleans or 0 and 1; 90 entries"),
    "nan": (lambda X: np.where(np.isnan(X), np.nan, 1.0), "booleans or 0 and 1"),
    "text": (lambda X: np.full(X.shape, "yes"), "booleans or 0 and 1"),
    "other columns": (lambda X: pd.DataFrame(~np.isnan(X), columns=["a", "b", "c"]), "columns that X does not have"),
    "other order": (lambda X: frame(~np.isnan(X))[["age", "weight", "height"]], "another order"),
}

BAD_PARAMETERS = {
    "n_samples": ({"n_samples": 0}, "n_samples must be an integer of at least 1"),
    "n_samples fraction": ({"n_samples": 1.5}, "n_samples must be an integer"),
    "sampler": ({"sampler": "halton"}, "unknown sampler 'halton'; use one of 'iid', 'antithetic', 'sobol'"),
    "n_fills": ({"n_fills": 0}, "n_fills must be an integer of at least 1"),
    "n_fills without noise": ({"n_fills": 2}, "n_fills=2 needs a network whose holes are filled with noise.*'paper'"),
    "tolerance": ({"tolerance": -0.1}, "tolerance must be a number of at least 0"),
    "tolerance text": ({"tolerance": "0.1"}, "tolerance must be a number"),
    "preset": ({"preset": "best"}, "unknown preset 'best'; use one of 'auto', 'paper'"),
    "backend": ({"backend": "cudnn"}, "unknown backend 'cudnn'; use one of"),
    "precision": ({"precision": "fp8"}, "unknown precision 'fp8'; use one of 'float32', 'tf32', 'bfloat16'"),
    "precision of the CPU": ({"precision": "tf32"}, "backend='auto' does not multiply in tf32; use backend='triton'"),
    "device": ({"device": "gpu0"}, "unknown device 'gpu0'; use"),
    "no such gpu": ({"device": "cuda:99"}, "device='cuda:99'"),
    "other device": ({"device": "meta"}, "unknown device 'meta'"),
    "n_models": ({"n_models": 0}, "n_models must be an integer of at least 1"),
    "bootstrap": ({"bootstrap": "no"}, "bootstrap must be True or False, got 'no'"),
    "warm_start": ({"warm_start": 1}, "warm_start must be True or False, got 1"),
    "epochs": ({"epochs": -1}, "epochs must be"),
    "batch_size": ({"batch_size": 1}, "batch_size must be"),
    "learning_rate": ({"learning_rate": 0.0}, "learning_rate must be a positive number"),
    "n_iter_no_change": ({"n_iter_no_change": 0}, "n_iter_no_change must be an integer of at least 1"),
    "max_time": ({"max_time": 0}, "max_time must be a positive number, got 0"),
    "max_time text": ({"max_time": "1h"}, "max_time must be a positive number, got '1h'"),
    "callbacks": ({"callbacks": print}, "callbacks must be a list of callables.*wrap a single one"),
    "callbacks text": ({"callbacks": ["log"]}, "callbacks must be a list of callables, but it holds a str"),
    "handle_unknown": ({"handle_unknown": "ignore"}, "unknown handle_unknown 'ignore'; use 'missing' or 'error'"),
    "min_value length": ({"min_value": [0, 1]}, r"min_value has shape \(2,\); pass a number, 3 of them, or a dict"),
    "min_value column": ({"min_value": {"hight": 0}}, "no column 'hight'"),
    "min_value text": ({"min_value": "low"}, "min_value of column 'height' must be a number, got 'low'"),
    "max_value nan": ({"max_value": np.nan}, "max_value of column 'height' must be a number, got nan"),
    "min above max": ({"min_value": 2, "max_value": 1}, "'height' would have to lie between 2.0 and 1.0"),
    "n_jobs": ({"n_jobs": 0}, "n_jobs must be"),
    "schema key": ({"schema": {"hight": "numerical"}}, "no column 'hight'; columns are 'height'"),
    "schema kind": ({"schema": {"age": "ordinal"}}, "kind 'ordinal'; use one of"),
    "schema type": ({"schema": ["age"]}, "schema must be a dict"),
    "schema position": ({"schema": {7: "numerical"}}, "no column 7"),
    "schema boolean": ({"schema": {"age": "boolean"}}, "'age' boolean, but it holds"),
}


def one_line(error):
    return "\n" not in str(error.value)


@pytest.mark.parametrize("name", BAD_TABLES)
def test_tables(name, X):
    make, message = BAD_TABLES[name]
    with pytest.raises((ValueError, TypeError), match=message) as error:
        vsae_fast.impute(make(X), **QUICK)
    assert one_line(error)


@pytest.mark.parametrize("name", BAD_MASKS)
def test_masks(name, X):
    make, message = BAD_MASKS[name]
    with pytest.raises(ValueError, match=message) as error:
        vsae_fast.impute(frame(X), make(X), **QUICK)
    assert one_line(error)


def test_inverted_mask_is_called_one(X):
    missing = np.isnan(X)
    message = rf"mask marks {missing.sum()} missing cell\(s\) of X as observed.*inverted"
    with pytest.raises(ValueError, match=message):
        vsae_fast.impute(X, missing, **QUICK)


@pytest.mark.parametrize("name", BAD_PARAMETERS)
def test_parameters(name, X):
    options, message = BAD_PARAMETERS[name]
    table = frame(X)
    with pytest.raises(ValueError, match=message) as error:
        vsae_fast.impute(table, **{**QUICK, **options})
    assert one_line(error)


def test_unknown_argument(X):
    with pytest.raises(TypeError, match="epoch"):
        vsae_fast.impute(X, epoch=3)


@pytest.fixture
def fitted(X):
    return VSAEImputer(**QUICK).fit(frame(X))


def state_of(imputer):
    parameters = [tensor.clone() for model in imputer.models_ for tensor in model.state_dict().values()]
    return dict(vars(imputer)), parameters


def assert_unchanged(imputer, state):
    attributes, parameters = state
    assert vars(imputer).keys() == attributes.keys()
    assert all(vars(imputer)[name] is value for name, value in attributes.items())
    now = [tensor for model in imputer.models_ for tensor in model.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(now, parameters, strict=True))


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_refused_table_leaves_a_fitted_imputer_as_it_was(name, X, fitted):
    bad = BAD_TABLES[name][0](X)
    state = state_of(fitted)
    for method in (fitted.fit, fitted.transform):
        with pytest.raises((ValueError, TypeError)):
            method(bad)
        assert_unchanged(fitted, state)


def test_a_refused_mask_leaves_the_inputs_and_the_imputer_as_they_were(X, fitted):
    table, mask = frame(X), np.isnan(X)
    before, state = table.copy(), state_of(fitted)
    for method in (fitted.fit, fitted.transform):
        with pytest.raises(ValueError, match="inverted"):
            method(table, mask=mask)
    assert_unchanged(fitted, state)
    pd.testing.assert_frame_equal(table, before)


def test_a_training_that_diverges_leaves_the_imputer_as_it_was(X, fitted):
    state = state_of(fitted)
    fitted.set_params(learning_rate=1e30)
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        fitted.set_params(epochs=3).fit(frame(X))
    fitted.set_params(learning_rate=None, epochs=1)
    assert_unchanged(fitted, state)


def test_columns_of_transform(X, fitted):
    table = frame(X)
    with pytest.raises(ValueError, match="unseen at fit time:\n- shoe size"):  # scikit-learn's own wording
        fitted.transform(table.assign(**{"shoe size": 1.0}))
    with pytest.raises(ValueError, match="seen at fit time, yet now missing:\n- age"):
        fitted.transform(table[["height", "weight"]])
    with pytest.raises(ValueError, match="same order"):
        fitted.transform(table[["age", "weight", "height"]])
    with pytest.raises(ValueError, match="2 features, but VSAEImputer is expecting 3"):
        VSAEImputer(**QUICK).fit(X).transform(X[:, :2])


def test_text_in_a_column_of_numbers(X, fitted):
    table = frame(X).astype(object)
    table.loc[3, "weight"] = "heavy"
    with pytest.raises(ValueError, match="'weight' held numbers at fit and now holds text"):
        fitted.transform(table)


def test_transform_before_fit(X):
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError, match="fit"):
        VSAEImputer().transform(X)


def test_odd_columns_get_one_warning_and_come_back_complete(rng):
    n = 13_000
    table = pd.DataFrame(
        {
            "value": rng.normal(size=n),
            "empty": np.full(n, np.nan),
            "same": np.full(n, 7.0),
            "url": [f"page {i // 1.1:.0f}" for i in range(n)],
            "person": [f"id {i:06d}" for i in range(n)],
            "row": np.arange(n),
        }
    )
    mask = rng.random(table.shape) < 0.9
    mask[:, 1] = False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = vsae_fast.impute(table, mask, **QUICK)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert "without any observed cell: empty" in message
    assert "constant: same" in message
    assert "identifier-like (every value differs): person, row" in message
    assert "more than 10,000 levels: url" in message
    assert caught[0].filename == __file__
    assert not result.isna().any(axis=None)
    assert (result["same"] == 7.0).all()
    assert list(result.columns) == list(table.columns)
    pd.testing.assert_series_equal(result["row"][mask[:, 5]], table["row"][mask[:, 5]])


def test_a_table_of_odd_columns_only(rng):
    table = pd.DataFrame({"empty": [np.nan] * 5, "same": ["a", None, "a", "a", None]})
    with pytest.warns(UserWarning, match="kept out of the model"):
        result = vsae_fast.impute(table, **QUICK)
    assert result["same"].tolist() == ["a"] * 5
    assert not result.isna().any(axis=None)
