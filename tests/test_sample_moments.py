import pytest
import torch

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


def test_moments_equal_those_of_the_same_samples():
    case = random_case(MIXED, 6, 1, context=True)
    n_samples = 37  # not a multiple of the block
    moment, variance = sample_moments(
        case.mean, case.scale, case.decoders, n_samples=n_samples,
        draws=TorchDraws(torch.Generator().manual_seed(3)), context=case.context,
    )  # fmt: skip
    draws, samples = TorchDraws(torch.Generator().manual_seed(3)), []
    for count in (10, 10, 10, 7):
        noise = draws.normal((count, *case.mean.shape), case.mean)
        _, output = case.decoders.decode(case.mean + case.scale * noise, case.context)
        samples.append(sample_data(output, case.decoders, draws))
    x = torch.cat(samples)
    torch.testing.assert_close(moment, x.mean(0))
    torch.testing.assert_close(variance, x.var(0, unbiased=False))


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
