import pytest
import torch
from scipy.stats import gamma, ks_2samp, kstest

from tests import tolerances
from tests.random_models import CATEGORICAL, MIXED, NUMERICAL_12, random_case
from vsae_fast.ops.draws import StreamDraws, TorchDraws
from vsae_fast.ops.importance_impute import expected_value
from vsae_fast.ops.sample_moments import sample_data, sample_moments


def test_one_hot_levels_and_gaussian_values(generator):
    case = random_case(MIXED, 4, 1)
    n = 40_000
    output = torch.randn(1, MIXED.n_columns, generator=generator, dtype=torch.float64).expand(n, -1)
    x = sample_data(output, case.decoders, TorchDraws(generator))
    expected = expected_value(output[:1], MIXED)[0]
    categorical = torch.tensor([kind == "categorical" for kind in MIXED.kinds])[
        MIXED.column_attribute(torch.device("cpu"))
    ]
    assert set(x[:, categorical].unique().tolist()) == {0.0, 1.0}
    for attribute, kind in enumerate(MIXED.kinds):
        if kind == "categorical":
            assert (x[:, MIXED.starts[attribute] : MIXED.starts[attribute + 1]].sum(1) == 1).all()
    scale = torch.where(categorical, 0.5, case.decoders.log_scale.exp())
    assert ((x.mean(0) - expected).abs() <= tolerances.STANDARD_ERRORS * scale / n**0.5).all()
    torch.testing.assert_close(x.std(0)[~categorical], scale[~categorical], rtol=0.02, atol=0)


def drawn_moments(case, n_samples, draws):
    """Mean and variance of samples that are drawn one by one."""
    noise = draws.normal((n_samples, *case.mean.shape), case.mean)
    _, output = case.decoders.decode(case.mean + case.scale * noise, case.context)
    x = sample_data(output, case.decoders, draws)
    return x.mean(0), x.var(0, unbiased=False)


@pytest.mark.parametrize("n_samples", [1, 2, 3, 12, 37])
def test_moments_are_distributed_as_those_of_drawn_samples(n_samples):
    """The Gaussian noise enters in closed form: many copies of one row show the law of its moments."""
    n_copies = 4000
    case = random_case(MIXED, 1, 1, context=True)
    for name in ("mean", "scale", "context"):
        setattr(case, name, getattr(case, name).expand(n_copies, -1))
    ours = sample_moments(
        case.mean, case.scale, case.decoders, n_samples=n_samples,
        draws=TorchDraws(torch.Generator().manual_seed(3)), context=case.context,
    )  # fmt: skip
    theirs = drawn_moments(case, n_samples, TorchDraws(torch.Generator().manual_seed(4)))
    if n_samples == 1:
        assert not ours[1].any()
    statistics = (lambda m, _: m, lambda _, v: v, lambda m, v: m + v, lambda m, v: m - v)  # the joint law, too
    for statistic in statistics:
        for a, b in zip(statistic(*ours).T, statistic(*theirs).T, strict=True):
            # Sums in another order differ by rounding, and the levels' frequencies are discrete.
            assert ks_2samp(a.numpy().round(9), b.numpy().round(9), method="asymp").pvalue > 1e-5


def test_a_gamma_number_of_concentration_0_is_0():
    like = torch.zeros(1)
    for draws in (StreamDraws(1), TorchDraws(torch.Generator().manual_seed(1))):
        assert torch.equal(draws.gamma(0, (3, 5), like), torch.zeros(3, 5))


@pytest.mark.parametrize("concentration", [1, 7, 49])
def test_gamma_numbers_follow_the_gamma_law(concentration):
    like = torch.zeros(1, dtype=torch.float64)
    for draws in (StreamDraws(1), TorchDraws(torch.Generator().manual_seed(1))):
        numbers = draws.gamma(concentration, (300, 33), like)
        assert kstest(numbers.flatten().numpy(), gamma(concentration).cdf).pvalue > 1e-5
        assert not torch.equal(numbers, draws.gamma(concentration, (300, 33), like))


def test_no_gradient_reaches_the_sampling_pass():
    case = random_case(MIXED, 3, 1)
    case.mean.requires_grad_()
    case.decoders.output.weight.requires_grad_()
    moment, variance = sample_moments(
        case.mean, case.scale, case.decoders, n_samples=5, draws=TorchDraws(torch.Generator().manual_seed(0))
    )
    assert not moment.requires_grad
    assert not variance.requires_grad


@pytest.mark.parametrize("layout", [MIXED, NUMERICAL_12, CATEGORICAL], ids=["mixed", "numbers", "levels"])
@pytest.mark.parametrize("n_samples", [1, 10, 37])
@pytest.mark.parametrize("context", [False, True])
def test_kernel_draws_and_sums_what_the_reference_does(layout, n_samples, context, level):
    case = random_case(layout, 13, 1, context=context, data_widths=(33, 20))
    (mean, scale, *_, decoders), keywords = case.arguments(torch.float32)
    options = {"n_samples": n_samples, "context": keywords["context"]}
    ours_draws, their_draws = StreamDraws(5), StreamDraws(5)
    for _ in range(2):  # the second call goes on in the streams
        ours = sample_moments(mean, scale, decoders, draws=ours_draws, backend="cpu", **options)
        theirs = sample_moments(mean, scale, decoders, draws=their_draws, backend="reference", **options)
        assert ours_draws.number == their_draws.number
        # A level may change where two of them are equal but for rounding.
        for a, b in zip(ours, theirs, strict=True):
            same = (a - b).abs() <= 1e-4 * b.abs().clamp(min=1)
            assert same.double().mean() >= 0.99
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    again = sample_moments(mean, scale, decoders, draws=StreamDraws(5), backend="cpu", **options)
    torch.set_num_threads(1)
    single = sample_moments(mean, scale, decoders, draws=StreamDraws(5), backend="cpu", **options)
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(again, single, strict=True))


def test_op_has_a_fake():
    (mean, scale, *_, decoders), _ = random_case(MIXED, 4, 1).arguments(torch.float32)
    layers = (*decoders.data_layers, decoders.output)
    call = (
        mean, scale, None,
        [layer.weight for layer in decoders.mask_layers], [layer.bias for layer in decoders.mask_layers],
        [layer.activation for layer in decoders.mask_layers], [layer.weight for layer in layers],
        [layer.bias for layer in layers], [layer.activation for layer in layers], decoders.log_scale,
        list(MIXED.starts), list(MIXED.kind_codes), 0.01, 3, 0, 0, 1,
    )  # fmt: skip
    op = torch.ops.vsae_fast.sample_moments.default
    torch.library.opcheck(op, call, test_utils=("test_schema", "test_faketensor"))


def test_wrong_arguments_are_named():
    (mean, scale, *_, decoders), _ = random_case(MIXED, 4, 1).arguments(torch.float32)
    with pytest.raises(ValueError, match="scale must have shape"):
        sample_moments(mean, scale[:, 1:], decoders, n_samples=3, draws=StreamDraws(0))
    with pytest.raises(ValueError, match="n_samples must be at least 1"):
        sample_moments(mean, scale, decoders, n_samples=0, draws=StreamDraws(0))
    with pytest.raises(ValueError, match="draws from StreamDraws"):
        sample_moments(mean, scale, decoders, n_samples=1, draws=TorchDraws(torch.Generator()), backend="cpu")
