"""The latent-class member of auto's ensembles: its values, who has one, and what it is good for."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from vsae_fast import VSAEImputer
from vsae_fast.class_member import ClassMember, levels_of
from vsae_fast.closed_form_candidates import CLASSES, MIXTURES, MOST_OF_CLASSES
from vsae_fast.fitted_imputer import fitted_imputer
from vsae_fast.latent_classes import LatentClasses, level_probabilities
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.presets import build_preset

LAYOUT = AttributeLayout(("categorical",) * 3, (2, 3, 2))
SHORT = {"epochs": 15, "n_models": 2, "random_state": 0}


def member(share=0.25, n_mixtures=2):
    rng = np.random.default_rng(0)
    mixtures = []
    for _ in range(n_mixtures):
        level = np.concatenate([rng.dirichlet(np.ones(width), 4).T for width in LAYOUT.widths])
        mixtures.append(LatentClasses(np.array(LAYOUT.starts, np.int32), rng.dirichlet(np.ones(4)), level))
    return ClassMember(LAYOUT, 0.0, share, tuple(mixtures))


def rows(n=200, seed=1):
    rng = np.random.default_rng(seed)
    x = np.concatenate([np.eye(w)[rng.integers(w, size=n)] for w in LAYOUT.widths], axis=1).astype(np.float32)
    mask = (rng.random((n, 3)) < 0.5).astype(np.float32)
    return x, mask, np.repeat(mask > 0, LAYOUT.widths, axis=1)


def types(n_rows=600, n_columns=8, n_types=4):
    """Rows of a few types that answer most questions alike, and the same with holes."""
    rng = np.random.default_rng(0)
    usual = rng.integers(3, size=(n_types, n_columns))
    own = rng.integers(n_types, size=n_rows)
    answers = np.where(rng.random((n_rows, n_columns)) < 0.8, usual[own], rng.integers(3, size=(n_rows, n_columns)))
    whole = pd.DataFrame(np.array(["a", "b", "c"])[answers], columns=[f"q{j}" for j in range(n_columns)])
    return whole, whole.mask(rng.random(whole.shape) < 0.4)


def test_expected_values_are_the_mixtures_average():
    x, _, observed = rows()
    unread = np.where(observed, x, np.nan)
    own = member()
    by_hand = np.mean([level_probabilities((mixture,), unread, observed) for mixture in own.mixtures], axis=0)
    found = own.expected(unread, observed)
    np.testing.assert_allclose(found, by_hand, rtol=1e-6)
    np.testing.assert_array_equal(found[observed], x[observed])
    np.testing.assert_allclose(np.add.reduceat(found, [0, 2, 5], axis=1), 1, rtol=1e-6)
    for i in (0, 7, 199):
        np.testing.assert_array_equal(own.expected(unread[i : i + 1], observed[i : i + 1])[0], found[i])


def test_levels_of_one_hot_rows():
    x, _, observed = rows()
    levels = levels_of(LAYOUT, np.where(observed, x, np.nan), observed)
    np.testing.assert_array_equal(levels >= 0, observed[:, [0, 2, 5]])
    np.testing.assert_array_equal(levels[observed[:, 2], 1], x[observed[:, 2], 2:5].argmax(1))


def test_what_it_prints():
    assert repr(member()) == "ClassMember(3 attributes, 2 mixtures of 4 classes; share of the average: 0.25)"


def test_rows_of_types_are_imputed_better_with_it():
    whole, incomplete = types(800, 15, n_types=9)
    imputer = VSAEImputer(n_models=1, epochs=60, random_state=0).fit(incomplete)
    assert isinstance(imputer.closed_form_, ClassMember)
    assert 0 < imputer.closed_form_.level_share <= MOST_OF_CLASSES
    assert len(imputer.closed_form_.mixtures) == MIXTURES
    assert len(imputer.closed_form_.mixtures[0].weight) in CLASSES
    x, mask, hidden = encoded(imputer, incomplete)
    truth = encoded(imputer, whole)[0].numpy().reshape(800, -1, 3)[hidden]

    def brier():
        """Squared error of the probabilities, which say more than the likeliest level does."""
        imputed = fitted_imputer(imputer).run(x, mask).imputed.numpy().reshape(800, -1, 3)[hidden]
        return ((imputed - truth) ** 2).sum(1).mean()

    with_it = brier()
    imputer.closed_form_ = None
    assert with_it < 0.98 * brier()


def encoded(imputer, table):
    """One-hot rows, their mask, and where cells are hidden."""
    codes = np.stack([pd.Categorical(table[name], categories=["a", "b", "c"]).codes for name in table], axis=1)
    x = (codes[..., None] == np.arange(3)).reshape(len(table), -1).astype(np.float32)
    mask = (codes >= 0).astype(np.float32)
    return torch.from_numpy(x), torch.from_numpy(mask), codes < 0


def test_who_has_one():
    levels = AttributeLayout(("categorical",) * 10, (3,) * 10)
    mixed = AttributeLayout(("categorical", "numerical"), (3, 1))
    assert build_preset("auto", levels, 500, 5_000).closed_form == "classes"
    assert build_preset("auto", levels, 50_000, 299_999).closed_form == "classes"
    assert build_preset("auto", levels, 50_000, 300_000).closed_form is None
    assert build_preset("auto", AttributeLayout(("categorical",), (1001,)), 5000, 5000).closed_form is None
    assert build_preset("auto", mixed, 500, 800).closed_form == "gaussian"
    assert build_preset("paper", levels, 500, 5_000).closed_form is None
    _, incomplete = types(60)
    assert VSAEImputer(**SHORT).fit(incomplete).closed_form_ is None  # too few rows for validation


def test_files_keep_it_and_damage_is_noticed(tmp_path):
    _, incomplete = types()
    imputer = VSAEImputer(**SHORT).fit(incomplete)
    assert isinstance(imputer.closed_form_, ClassMember)
    imputer.save(tmp_path / "model")
    again = VSAEImputer.load(tmp_path / "model")
    assert repr(again.closed_form_) == repr(imputer.closed_form_)
    pd.testing.assert_frame_equal(again.transform(incomplete), imputer.transform(incomplete))
    pd.testing.assert_frame_equal(again.sample(incomplete, 1)[0], imputer.sample(incomplete, 1)[0])
    layout, arrays = imputer.schema_.layout(), imputer.closed_form_.arrays
    for wrong, told in (
        ({"weight": arrays["weight"][0]}, "weight and level of the latent-class member must have shapes"),
        ({"level": arrays["level"][:, 1:]}, r"must have shapes \(R, K\) and \(R, 24, K\)"),
        ({"weight": arrays["weight"] * 0}, "weight of the latent-class member must be positive and finite"),
        ({"level": arrays["level"] * np.nan}, "level of the latent-class member must be positive and finite"),
    ):
        with pytest.raises(ValueError, match=told):
            ClassMember.of_arrays(layout, {**arrays, **wrong}, (0.0, 0.1))
    with pytest.raises(ValueError, match="shares of the latent-class member must be between 0 and 1"):
        ClassMember.of_arrays(layout, arrays, (0.0, 1.1))
    with pytest.raises(ValueError, match="of tables of categories alone"):
        ClassMember.of_arrays(AttributeLayout(("numerical",) * 24, (1,) * 24), arrays, (0.0, 0.1))


def test_threads_change_no_bit_and_a_further_fit_fits_it_anew():
    _, incomplete = types()
    imputer = VSAEImputer(**SHORT, n_jobs=1).fit(incomplete)
    two = VSAEImputer(**SHORT, n_jobs=2).fit(incomplete)
    pd.testing.assert_frame_equal(imputer.transform(incomplete), two.transform(incomplete))
    assert fitted_imputer(two)._closed_form.n_threads == 2
    before = imputer.closed_form_
    imputer.set_params(warm_start=True).fit(incomplete[:400])
    assert imputer.closed_form_ is not before


def test_unseen_levels_and_empty_rows():
    _, incomplete = types()
    imputer = VSAEImputer(**SHORT).fit(incomplete)
    imputer.closed_form_ = replace(imputer.closed_form_, level_share=1.0)
    new = pd.DataFrame(None, index=[0, 1], columns=incomplete.columns)
    new.loc[1, "q0"] = "new"
    with pytest.warns(UserWarning, match="not seen at fit"):
        completed = imputer.transform(new)
    assert completed.loc[1, "q0"] == "new"
    assert completed.drop(columns="q0").isin(["a", "b", "c"]).all(axis=None)


def test_draws_follow_its_probabilities():
    _, incomplete = types()
    imputer = VSAEImputer(**SHORT).fit(incomplete)
    imputer.closed_form_ = replace(imputer.closed_form_, level_share=1.0)
    one_hole = incomplete.dropna().head(40).assign(q3=None)
    x, mask, hidden = encoded(imputer, one_hole)
    expected = fitted_imputer(imputer).run(x, mask).imputed.numpy().reshape(len(one_hole), -1, 3)[hidden]
    draws = np.stack([table["q3"] for table in imputer.sample(one_hole, 200)])
    shares = np.stack([(draws == level).mean(0) for level in "abc"], axis=1)
    assert np.abs(shares - expected).max() < 0.15
    assert np.abs((shares - expected).mean(0)).max() < 0.02
