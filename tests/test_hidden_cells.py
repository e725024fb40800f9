import pytest
import torch

from tests.random_models import MIXED, random_rows
from vsae_fast import hidden_cells
from vsae_fast.hidden_cells import impute_hidden_cells
from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.vsae import VSAE

OPTIONS = {"share": 0.4, "n_samples": 20, "n_patterns": 5, "n_draws": 3}


@pytest.fixture
def rows(generator):
    x, mask = random_rows(MIXED, 33, generator, observed=0.8)
    return x.float(), mask.float()


def model_filled_with(fill):
    torch.manual_seed(0)
    return VSAE(MIXED, NetworkConfig(fill=fill)).eval()


@pytest.mark.parametrize("fill", ["zero", "noise"])
def test_patterns_together_are_those_one_by_one(fill, rows, monkeypatch):
    model = model_filled_with(fill)
    together = list(impute_hidden_cells(model, *rows, 1.0, 7, **OPTIONS))
    assert [len(cells.x) for cells in together] == [5 * 33]
    x = rows[0]
    monkeypatch.setattr(hidden_cells, "MOST_FLOATS", 2 * 4 * x.numel())  # rows and three draws, twice
    apart = list(impute_hidden_cells(model, *rows, 1.0, 7, **OPTIONS))
    assert [len(cells.x) for cells in apart] == [66, 66, 33]
    for name in ("x", "visible", "hidden"):
        assert torch.equal(getattr(together[0], name), torch.cat([getattr(cells, name) for cells in apart]))
    imputed = torch.cat([cells.result.imputed for cells in apart])
    torch.testing.assert_close(together[0].result.imputed, imputed, rtol=1e-5, atol=1e-5)
    draws = torch.cat([cells.result.draws for cells in apart])
    torch.testing.assert_close(together[0].result.draws, draws, rtol=1e-4, atol=1e-4)


def test_patterns_and_draws_differ(rows):
    ((x, visible, hidden, result),) = impute_hidden_cells(model_filled_with("zero"), *rows, 1.0, 7, **OPTIONS)
    assert torch.equal(x, rows[0].repeat(5, 1))
    assert torch.equal(visible + hidden, rows[1].repeat(5, 1))
    patterns = hidden.view(5, 33, -1)
    assert all(not torch.equal(patterns[0], other) for other in patterns[1:])
    assert hidden.sum().item() == pytest.approx(0.4 * rows[1].sum().item() * 5, rel=0.1)
    missing = (MIXED.expand(rows[1]) == 0) & MIXED.numerical_columns(x.device)
    drawn = result.draws[:, 0].view(5, 33, -1)
    assert missing.any()
    assert not (drawn[0] == drawn[1])[missing].any()


def test_what_is_hidden_is_not_read(rows):
    model, (x, mask) = model_filled_with("zero"), rows
    options = {**OPTIONS, "n_patterns": 1}
    ((_, _, hidden, before),) = impute_hidden_cells(model, x, mask, 1.0, 7, **options)
    where = MIXED.expand(hidden) > 0
    ((_, _, _, after),) = impute_hidden_cells(model, torch.where(where, 0.5 - x, x), mask, 1.0, 7, **options)
    assert where.any()
    assert torch.equal(before.imputed[where], after.imputed[where])
