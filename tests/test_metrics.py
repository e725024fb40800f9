import numpy as np
import pandas as pd
import pytest

from vsae_fast.metrics import mse, nrmse, pfc

TRUTH = np.array([[0.0, 10.0], [4.0, 30.0], [8.0, 20.0]])
GUESS = np.array([[0.0, 16.0], [6.0, 30.0], [8.0, 12.0]])
MASK = np.array([[1, 0], [0, 1], [1, 0]])


def test_nrmse_by_hand():
    std = np.array([TRUTH[:, 0].std(), TRUTH[:, 1].std()])
    rmse = np.array([2.0, np.sqrt((36 + 64) / 2)])
    assert nrmse(TRUTH, GUESS, MASK) == pytest.approx((rmse / std).mean())
    assert nrmse(TRUTH, GUESS, MASK, normalize="range") == pytest.approx((rmse / [8, 20]).mean())
    error = (2 / 8) ** 2 + (6 / 20) ** 2 + (8 / 20) ** 2
    truth = (4 / 8) ** 2 + 0**2 + (10 / 20) ** 2
    assert nrmse(TRUTH, GUESS, MASK, normalize="rms") == pytest.approx(np.sqrt(error / truth))


def test_mse_by_hand():
    assert mse(TRUTH, GUESS, MASK) == pytest.approx((4 + 36 + 64) / 3)
    assert mse(TRUTH, GUESS, MASK, columns=[0]) == pytest.approx(4)


def test_mean_imputation_has_an_nrmse_of_one():
    X = np.random.default_rng(0).normal(3, 2, (5000, 3))
    mask = np.random.default_rng(1).random(X.shape) < 0.5
    guess = np.where(mask, X, X.mean(axis=0))
    assert nrmse(X, guess, mask) == pytest.approx(1, abs=0.03)


def test_pfc_by_hand_on_text_booleans_and_frames():
    truth = pd.DataFrame({"k": ["a", "b", "b", "c"], "b": [True, True, False, False], "x": [1.5, 2.5, 3.5, 4.5]})
    guess = pd.DataFrame({"k": ["a", "c", "b", "c"], "b": [True, False, False, True], "x": [9.5] * 4})
    mask = np.zeros((4, 3), dtype=bool)
    assert pfc(truth, guess, mask) == pytest.approx(3 / 8)
    assert pfc(truth, guess, mask, columns=["k"]) == pytest.approx(1 / 4)
    mask[1, 0] = True
    assert pfc(truth, guess, mask, columns=["k"]) == 0
    assert nrmse(truth, guess, mask) == nrmse(truth[["x"]], guess[["x"]], mask[:, 2:])


def test_observed_cells_and_missing_truth_are_not_scored():
    truth = TRUTH.copy()
    truth[0, 1] = np.nan
    guess = GUESS.copy()
    guess[0, 0] = 1e9
    assert mse(truth, guess, MASK) == pytest.approx((4 + 64) / 2)


def test_nothing_to_score():
    full = np.ones_like(MASK)
    assert np.isnan(nrmse(TRUTH, GUESS, full))
    assert np.isnan(nrmse(TRUTH, GUESS, full, normalize="rms"))
    assert np.isnan(mse(TRUTH, GUESS, full))
    assert np.isnan(pfc(TRUTH, GUESS, MASK))


def test_bad_input():
    with pytest.raises(ValueError, match=r"shape \(3, 2\), but X_imputed has shape \(2, 2\)"):
        nrmse(TRUTH, GUESS[:2], MASK)
    with pytest.raises(ValueError, match="still misses 1 of the cells to score in column 'x1'"):
        nrmse(TRUTH, np.where(GUESS == 16, np.nan, GUESS), MASK)
    with pytest.raises(ValueError, match="unknown normalize"):
        nrmse(TRUTH, GUESS, MASK, normalize="mean")
    with pytest.raises(ValueError, match="mask has shape"):
        mse(TRUTH, GUESS, MASK[:2])
    with pytest.raises(ValueError, match="no column 'z'"):
        pfc(TRUTH, GUESS, MASK, columns=["z"])
    words = np.array([["a"], ["b"]], dtype=object)
    with pytest.raises(ValueError, match="holds text; score it with pfc"):
        nrmse(words, words, np.zeros((2, 1)), columns=[0])
