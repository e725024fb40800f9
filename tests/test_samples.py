"""Which samples importance_impute takes: mirrored noise, several proposals, a stop when they are enough, draws."""

from dataclasses import replace

import pytest
import torch

from tests import tolerances
from tests.random_models import MIXED, random_case
from tests.test_importance_impute import IMAGES, LAYOUTS, assert_as_good_as_eager, errors, on_cpu, run
from vsae_fast.ops.importance_impute import importance_impute
from vsae_fast.ops.stopping import LOOK, SEGMENTS_PER_LOOK, segments_needed

# ---- mirrored noise --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_samples", [8, 9, 16, 17, 24, 25, 40, 48, 49, 81, 96, 97, 1000])
def test_mirrored_noise_of_any_length(n_samples, level):
    assert_as_good_as_eager(random_case(MIXED, 9, n_samples, context=True, mirrored=True))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_mirrored_noise_of_any_layout(layout, level):
    assert_as_good_as_eager(random_case(LAYOUTS[layout], 17, 300, mirrored=True), visible_weight=0.2)


@pytest.mark.parametrize(
    "options",
    [
        {"data_widths": (33, 7), "mask_widths": (3,), "n_latent": 5},
        {"data_widths": (128, 128, 5), "context": True},
        {"mask_widths": (), "n_latent": 1, "data_widths": (1,)},
        {"data_widths": (512, 300), "n_latent": 200},
    ],
)
def test_mirrored_noise_of_any_decoders(options, level):
    assert_as_good_as_eager(random_case(MIXED, 9, 130, mirrored=True, **options))


def test_mirrored_noise_scores_wide_attributes(level):
    assert_as_good_as_eager(random_case(IMAGES, 9, 120, mirrored=True, data_widths=(33, 64)))


def test_mirrored_noise_of_large_log_weights(level):
    case = random_case(MIXED, 17, 300, observed=0.8, mirrored=True, n_latent=300)
    case.mean *= 5
    case.scale += 1
    assert run(case, torch.float64, "reference").log_evidence.abs().max() > 1e3
    assert_as_good_as_eager(case)


def test_a_table_with_one_number_that_is_no_image(level):
    """What looks mirrored but is not must not be taken for it."""
    for k in (8, 95, 112):
        case = random_case(MIXED, 9, 120, mirrored=True)
        case.noise[k, 3] += 0.5
        assert_as_good_as_eager(case)


# ---- several proposals, stopping, draws ----------------------------------------------------------------------------


def several_proposals(layout, n_proposals, n_samples, **options):
    """A case whose every row has several proposals."""
    case = random_case(layout, 9, n_samples, context=True, **options)
    generator = torch.Generator().manual_seed(1)

    def spread(tensor):
        noise = torch.rand(9, n_proposals, tensor.shape[1], generator=generator, dtype=torch.float64)
        return tensor.unsqueeze(1) + 0.3 * noise

    case.mean, case.scale, case.context = map(spread, (case.mean, case.scale, case.context))
    return case


@pytest.mark.parametrize(("n_proposals", "n_samples"), [(2, 100), (5, 35), (3, 3)])
def test_several_proposals(n_proposals, n_samples, level):
    assert_as_good_as_eager(several_proposals(MIXED, n_proposals, n_samples))


def test_equal_proposals_are_one():
    case = random_case(MIXED, 5, 96)
    (mean, scale, x, mask, noise, decoders), _ = case.arguments(torch.float32)
    one = importance_impute(mean, scale, x, mask, noise, decoders)
    two = importance_impute(
        mean.repeat(1, 2).view(5, 2, -1), scale.repeat(1, 2).view(5, 2, -1), x, mask, noise, decoders
    )
    torch.testing.assert_close(one.imputed, two.imputed, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(one.log_evidence, two.log_evidence)


def assert_stops_like_the_reference(kernel, n_proposals, n_samples=1920, mirrored=False, tolerance=0.05):
    case = several_proposals(MIXED, n_proposals, n_samples, observed=0.4, mirrored=mirrored)
    case.mean, case.scale = 0.1 * case.mean, 0.8 + 0.2 * case.scale  # near the prior: no weight dominates
    case.mask[0] = 1
    truth = run(case, torch.float64, "reference", tolerance=tolerance)
    result = kernel(case, tolerance=tolerance)
    assert torch.equal(result.n_spent, truth.n_spent)
    assert LOOK * n_proposals == result.n_spent[0] <= result.n_spent.min()
    assert result.n_spent.unique().numel() > 2
    assert errors(result, truth)["imputed"] <= 1e-4
    assert errors(result, truth)["log_evidence"] <= tolerances.LOG_EVIDENCE_RELATIVE
    return case, result


@pytest.mark.parametrize(
    ("n_proposals", "n_samples", "mirrored"), [(1, 1920, False), (2, 1920, False), (1, 1920, True), (1, 610, True)]
)
def test_sampling_stops_at_the_requested_precision(n_proposals, n_samples, mirrored, level):
    case, result = assert_stops_like_the_reference(on_cpu, n_proposals, n_samples, mirrored)
    full = on_cpu(case)
    assert (full.n_spent == n_samples).all()
    stopped = result.n_spent < n_samples
    assert (full.imputed - result.imputed)[stopped].abs().max() < 0.05 * tolerances.STANDARD_ERRORS
    torch.testing.assert_close(full.imputed[~stopped], result.imputed[~stopped], rtol=1e-5, atol=1e-5)  # other blocks


@pytest.mark.parametrize(("effective", "needed"), [(2, 0), (5, 0), (7, SEGMENTS_PER_LOOK)])
def test_segments_that_hold_a_sample_each_say_nothing(effective, needed):
    """Equal values of every segment: no error is seen, and of few samples none would be."""
    weight = torch.ones(SEGMENTS_PER_LOOK, 1, dtype=torch.float64)
    square = weight * SEGMENTS_PER_LOOK / effective
    found = segments_needed(weight, square, weight.unsqueeze(-1), torch.ones(1, 1), tolerance=0.05)
    assert found.tolist() == [needed]


def assert_a_large_effective_size_is_enough(kernel, n_rows=40):
    case = random_case(MIXED, n_rows, 480, observed=0.4)
    case.mean, case.scale = 0.1 * case.mean, 0.9 + 0.1 * case.scale
    tolerance = 0.28
    truth = run(case, torch.float64, "reference", tolerance=tolerance)
    result = kernel(case, tolerance=tolerance)
    assert torch.equal(result.n_spent, truth.n_spent)
    first_look = run(replace(case, noise=case.noise[:LOOK]), torch.float64, "reference")
    enough = first_look.effective_size >= tolerance**-2
    assert enough.any()
    assert not enough.all()
    assert (result.n_spent[enough] == LOOK).all()
    assert (result.n_spent > LOOK).any()


def test_a_large_effective_size_is_enough(level):
    assert_a_large_effective_size_is_enough(on_cpu)


def assert_draws_of_the_reference(case, kernel, **options):
    row_id = torch.tensor([5, 2**40, -3, 0, 1, 2, 3, 4, 2**33])[: len(case.x)]
    options |= {"n_draws": 70, "seed": 11, "row_id": row_id}
    truth = run(case, torch.float64, "reference", **options)
    result = kernel(case, **options)
    assert result.draws.shape == truth.draws.shape == (len(row_id), 70, case.x.shape[1])
    # A uniform number within single precision of a boundary may choose the neighbour.
    differing = ((result.draws - truth.draws).abs() > 1e-4).any(-1).double().mean()
    assert differing <= 0.01
    observed = (case.decoders.layout.expand(case.mask) > 0).unsqueeze(1).expand(result.draws.shape)
    assert torch.equal(result.draws[observed], case.x.float().unsqueeze(1).expand(result.draws.shape)[observed])
    return result


def test_draws_match_the_reference(level):
    case = several_proposals(MIXED, 2, 200)
    result = assert_draws_of_the_reference(case, on_cpu)
    assert torch.equal(result.draws[..., 0:3].sum(-1), torch.ones(9, 70))


def test_draws_do_not_depend_on_batches_or_threads(level):
    case = random_case(MIXED, 40, 130, context=True)
    (mean, scale, x, mask, noise, decoders), keywords = case.arguments(torch.float32)
    options = {"n_draws": 3, "seed": 2**62 + 5}
    whole = importance_impute(
        mean, scale, x, mask, noise, decoders, context=keywords["context"], n_threads=2, **options
    )
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    shuffled = importance_impute(
        mean[order], scale[order], x[order], mask[order], noise, decoders,
        context=keywords["context"][order], row_id=order, n_threads=1, **options,
    )  # fmt: skip
    assert torch.equal(whole.draws[order], shuffled.draws)
    other = importance_impute(mean, scale, x, mask, noise, decoders, n_draws=3, seed=1)
    assert not torch.equal(whole.draws, other.draws)


def test_draws_have_the_posterior_mean():
    case = random_case(MIXED, 3, 500, observed=0.3)
    result = run(case, torch.float32, "cpu", n_draws=4000)
    hole = MIXED.expand(case.mask) == 0
    error = result.draws.std(1) / 4000**0.5
    distance = (result.draws.mean(1) - result.imputed).abs()
    assert (distance[hole] <= tolerances.STANDARD_ERRORS * error[hole] + 1e-6).all()
