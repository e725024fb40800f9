import torch

from tests import tolerances
from tests.random_models import MIXED, random_case
from vsae_fast.ops.draws import TorchDraws
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
