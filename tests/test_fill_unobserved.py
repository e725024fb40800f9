import pytest
import torch

from tests.random_models import MIXED, NUMERICAL_12, random_rows
from vsae_fast.ops.fill_unobserved import fill_unobserved


@pytest.mark.parametrize("layout", [MIXED, NUMERICAL_12])
@pytest.mark.parametrize("n_rows", [1, 17])
def test_fills_holes_and_appends_the_mask(layout, n_rows, generator):
    x, mask = random_rows(layout, n_rows, generator)
    noise = torch.randn(n_rows, layout.n_columns, generator=generator, dtype=torch.float64)
    result = fill_unobserved(x, mask, noise, layout)
    assert result.shape == (n_rows, layout.n_columns + layout.n_attributes)
    for row in range(n_rows):
        for attribute in range(layout.n_attributes):
            block = slice(layout.starts[attribute], layout.starts[attribute + 1])
            source = x if mask[row, attribute] else noise
            assert torch.equal(result[row, block], source[row, block])
    assert torch.equal(result[:, layout.n_columns :], mask)


def test_zeros_and_shared_noise(generator):
    x, mask = random_rows(MIXED, 9, generator)
    holes = MIXED.expand(mask) == 0
    assert (fill_unobserved(x, mask, None, MIXED)[:, : MIXED.n_columns][holes] == 0).all()
    shared = torch.randn(MIXED.n_columns, generator=generator, dtype=torch.float64)
    filled = fill_unobserved(x, mask, shared, MIXED)[:, : MIXED.n_columns]
    assert torch.equal(filled[holes], shared.expand(9, -1)[holes])


def test_what_stands_in_a_hole_is_never_read(generator):
    x, mask = random_rows(MIXED, 9, generator)
    poisoned = torch.where(MIXED.expand(mask) > 0, x, torch.nan)
    assert torch.equal(fill_unobserved(poisoned, mask, None, MIXED), fill_unobserved(x, mask, None, MIXED))


def test_gradient_reaches_observed_cells_only(generator):
    x, mask = random_rows(MIXED, 5, generator)
    x.requires_grad_()
    fill_unobserved(x, mask, None, MIXED).sum().backward()
    assert torch.equal(x.grad, MIXED.expand(mask))
    assert torch.autograd.gradcheck(lambda v: fill_unobserved(v, mask, None, MIXED), (x,))
