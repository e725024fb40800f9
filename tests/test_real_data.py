import warnings

import numpy as np
import pytest

from bench.accuracy.linear import MeanAndMode
from bench.accuracy.sets import load
from vsae_fast import impute
from vsae_fast.metrics import nrmse, pfc
from vsae_fast.missingness import ampute


@pytest.mark.slow
@pytest.mark.parametrize(("name", "epochs"), [("white_wine", 12), ("heart_cleveland", 60)])
def test_beats_mean_and_mode(data_dir, name, epochs):
    truth = load(name, data_dir)
    incomplete, mask = ampute(truth, "MCAR", 0.5, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = impute(incomplete, random_state=0, epochs=epochs)
    baseline = MeanAndMode().fit_transform(incomplete)
    assert nrmse(truth, result, mask) < nrmse(truth, baseline, mask) - 0.03
    if not np.isnan(pfc(truth, baseline, mask)):
        assert pfc(truth, result, mask) < pfc(truth, baseline, mask) - 0.03
    seen = mask & truth.notna().to_numpy()
    assert (result.to_numpy(object)[seen] == truth.to_numpy(object)[seen]).all()
    assert not result.isna().any(axis=None)
