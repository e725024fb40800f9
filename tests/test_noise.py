import numpy as np
import pytest
import torch
from scipy.special import ndtri

from tests import tolerances
from vsae_fast import _native
from vsae_fast.noise import SAMPLERS, latent_noise, mirror_images
from vsae_fast.ops.philox import open_uniform, philox, uniforms


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_row_is_standard_normal(sampler):
    """Over many seeds a given row and column of the table has mean 0 and variance 1."""
    values = torch.stack([latent_noise(sampler, seed, (100, 2))[[0, 1, 57]] for seed in range(2000)]).double()
    error = 1 / 2000**0.5
    assert values.mean(0).abs().max() < tolerances.STANDARD_ERRORS * error
    # Midpoints of 128 intervals cut the tails: the variance of their normal quantiles is 0.985.
    assert ((values**2).mean(0) - 1).abs().max() < tolerances.STANDARD_ERRORS * 2**0.5 * error + 0.015
    assert (values[..., 0] * values[..., 1]).mean(0).abs().max() < tolerances.STANDARD_ERRORS * error


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_seeds_differ_and_repeat(sampler):
    assert torch.equal(latent_noise(sampler, 3, (50, 4)), latent_noise(sampler, 3, (50, 4)))
    assert not torch.equal(latent_noise(sampler, 3, (50, 4)), latent_noise(sampler, 4, (50, 4)))
    assert latent_noise(sampler, 3, (50, 4)).dtype == torch.float32


@pytest.mark.parametrize("n_samples", [1, 2, 3, 100, 1000])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_any_number_of_samples(sampler, n_samples):
    noise = latent_noise(sampler, 0, (n_samples, 3))
    assert noise.shape == (n_samples, 3)
    assert torch.isfinite(noise).all()


def test_sobol_points_fill_every_interval_once():
    """Scrambling keeps the net: 64 points fall one into each of 64 intervals of each column, and into 8 x 8 boxes."""
    own = mirror_images(128) == torch.arange(128)
    u = torch.special.ndtr(latent_noise("sobol", 5, (128, 6))[own].double())
    cells = (u * 64).long()
    for column in cells.T:
        assert torch.equal(column.sort().values, torch.arange(64))
    boxes = (u[:, 0] * 8).long() * 8 + (u[:, 1] * 8).long()
    assert torch.equal(boxes.sort().values, torch.arange(64))


@pytest.mark.parametrize("sampler", ["antithetic", "sobol"])
@pytest.mark.parametrize("n_samples", [1, 9, 24, 100, 288])
def test_images_are_the_negatives_of_their_originals(sampler, n_samples):
    table, original = latent_noise(sampler, 7, (n_samples, 5)), mirror_images(n_samples)
    image = original != torch.arange(n_samples)
    assert torch.equal(table[image], -table[original[image]])
    assert original[image].unique().numel() == image.sum()
    assert table[~image].abs().unique(dim=0).shape[0] == (~image).sum()
    assert n_samples % 8 or image.sum() == n_samples // 2


@pytest.mark.parametrize("n_samples", [9, 24, 48, 49, 100, 288, 1000])
def test_the_kernel_knows_mirrored_tables(n_samples):
    """Were the two patterns to differ, results would stay right and the speed would be gone."""

    def known(table):
        return _native.is_mirrored(table.data_ptr(), *table.shape)

    assert known(latent_noise("antithetic", 1, (n_samples, 5)))
    assert known(latent_noise("sobol", 1, (n_samples, 5)))
    assert not known(latent_noise("iid", 1, (n_samples, 5)))
    image = torch.nonzero(mirror_images(n_samples) != torch.arange(n_samples))[-1]
    table = latent_noise("sobol", 1, (n_samples, 5))
    table[image, 3] += 0.5
    assert not known(table)


# Whole pairs leave nothing of an odd function; an even one shows what the points are worth.
@pytest.mark.parametrize(
    ("sampler", "function", "gain"),
    [("antithetic", torch.sin, 1e6), ("sobol", torch.sin, 1e6), ("sobol", torch.cos, 5)],
)
def test_averages_converge_faster_than_with_independent_samples(sampler, function, gain):
    def error(name):
        means = [function(latent_noise(name, seed, (288, 8)).double()).sum(1).mean() for seed in range(30)]
        return torch.stack(means).std()

    assert error(sampler) * gain < error("iid")


def test_too_many_latent_dimensions_for_sobol():
    with pytest.raises(ValueError, match="use sampler='antithetic'"):
        latent_noise("sobol", 0, (2, 21202))
    with pytest.raises(ValueError, match="unknown sampler 'halton'"):
        latent_noise("halton", 0, (2, 2))


def test_philox_known_answers():
    """Known answers of the authors' Random123 library."""
    ones = torch.tensor(-1)
    assert [int(w) for w in philox(2**64 - 1, ones, ones, ones)] == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    low = torch.tensor(0x85A308D3243F6A88 - 2**64)
    words = philox(0x299F31D0A4093822, low, torch.tensor(0x13198A2E), torch.tensor(0x03707344))
    assert [int(w) for w in words] == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


def test_philox_of_the_extension_is_the_same():
    seed, row = 2**63 + 12345, -7
    ours = philox(seed, torch.tensor(row), torch.tensor(3), torch.tensor(2**32 - 1))
    assert _native.philox(seed, row % 2**64, 3, 2**32 - 1) == [int(word) for word in ours]


def test_uniform_numbers_stay_inside_the_interval():
    largest = torch.tensor(2**32 - 1)
    assert 0 < open_uniform(torch.tensor(0), torch.tensor(0)) < open_uniform(largest, largest) < 1
    u = uniforms(0, torch.arange(50), 20, 7)
    assert u.shape == (50, 20, 7)
    assert u.unique().numel() == u.numel()
    assert abs(u.mean() - 0.5) < tolerances.STANDARD_ERRORS * (1 / 12 / u.numel()) ** 0.5


def test_normal_quantile():
    p = np.concatenate(
        [np.logspace(-300, -1, 20001), np.linspace(1e-6, 1 - 1e-6, 20001), 1 - np.logspace(-16, -1, 2001)]
    )
    ours, exact = np.empty_like(p), ndtri(p)
    _native.normal_quantile(p.ctypes.data, ours.ctypes.data, p.size)
    scale = np.spacing(np.maximum(np.abs(exact), 1e-3))
    assert (np.abs(ours - exact) / scale).max() <= tolerances.NORMAL_QUANTILE_ULP
