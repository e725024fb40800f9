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


@pytest.mark.parametrize("layout", [MIXED, NUMERICAL_12])
@pytest.mark.parametrize("noise_shape", [None, (0,), (1, 0), (17, 0)])
def test_kernel_is_the_reference(layout, noise_shape, generator):
    x, mask = (t.float() for t in random_rows(layout, 17, generator))
    noise = None
    if noise_shape is not None:
        noise = torch.randn(*noise_shape[:-1], layout.n_columns, generator=generator)
    x = torch.where(layout.expand(mask) > 0, x, torch.nan)
    results = {}
    for backend in ("cpu", "reference"):
        own = x.clone().requires_grad_()
        filled = fill_unobserved(own, mask, noise, layout, backend)
        (filled * torch.arange(filled.numel()).view_as(filled)).sum().backward()
        results[backend] = (filled, own.grad)
    for ours, theirs in zip(results["cpu"], results["reference"], strict=True):
        assert torch.equal(ours, theirs)
    strided = x.t().contiguous().t()
    assert torch.equal(fill_unobserved(strided, mask, noise, layout, "cpu"), results["reference"][0])


def test_op_passes_torch_checks(generator):
    x, mask = (t.float() for t in random_rows(MIXED, 4, generator))
    op = torch.ops.vsae_fast.fill_unobserved.default
    torch.library.opcheck(op, (x.requires_grad_(), mask, torch.randn_like(x), list(MIXED.widths)))


def test_wrong_arguments_are_named(generator):
    x, mask = (t.float() for t in random_rows(MIXED, 4, generator))
    with pytest.raises(ValueError, match=r"x must have shape \(4, 16\)"):
        fill_unobserved(x[:, 1:], mask, None, MIXED)
    with pytest.raises(ValueError, match=r"noise must have shape \(4, 16\)"):
        fill_unobserved(x, mask, torch.randn(3, 16), MIXED)
    with pytest.raises(ValueError, match=r"mask must be torch\.float32"):
        fill_unobserved(x, mask.double(), None, MIXED)
    with pytest.raises(ValueError, match="takes float32 tensors on the CPU"):
        fill_unobserved(x.double(), mask.double(), None, MIXED, "cpu")


def test_gradient_reaches_observed_cells_only(generator):
    x, mask = random_rows(MIXED, 5, generator)
    x.requires_grad_()
    fill_unobserved(x, mask, None, MIXED).sum().backward()
    assert torch.equal(x.grad, MIXED.expand(mask))
    assert torch.autograd.gradcheck(lambda v: fill_unobserved(v, mask, None, MIXED), (x,))
