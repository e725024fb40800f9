from importlib import import_module

import pytest
import torch

from tests import tolerances
from tests.random_models import CATEGORICAL, MIXED, NUMERICAL_12, random_case
from tests.torch_threads import torch_threads
from vsae_fast.models.generation import sample_data
from vsae_fast.ops.draws import StreamDraws, TorchDraws
from vsae_fast.ops.importance_impute import expected_value
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.ops.sample_moments import sample_moments

SAMPLING = import_module("vsae_fast.ops.sample_moments")  # whose package exports a function of that name
# Of 20 hidden neurons, the first has narrow blocks alone; the second's go through the hidden vectors' second moments.
BLOCKS = AttributeLayout(("numerical", "numerical", "categorical", "numerical"), (1, 5, 3, 4))
WIDE_BLOCKS = AttributeLayout(("numerical", "numerical", "categorical", "numerical"), (70, 1, 3, 37))


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


def test_mean_and_variance_are_those_of_drawn_samples():
    """x drawn one by one, z anew for each: the law of total variance in many samples."""
    n = 40_000
    case = random_case(BLOCKS, 1, 1, context=True)
    moment, variance = sample_moments(
        case.mean, case.scale, case.decoders, n_samples=n,
        draws=TorchDraws(torch.Generator().manual_seed(3)), context=case.context,
    )  # fmt: skip
    draws = TorchDraws(torch.Generator().manual_seed(4))
    noise = draws.normal((n, *case.mean.shape), case.mean)
    _, output = case.decoders.decode(case.mean + case.scale * noise, case.context)
    x = sample_data(output, case.decoders, draws)[:, 0]
    spread = x.std(0)
    assert ((moment[0] - x.mean(0)).abs() <= 1.5 * tolerances.STANDARD_ERRORS * spread / n**0.5).all()
    for attribute, kind in enumerate(BLOCKS.kinds):
        columns = slice(BLOCKS.starts[attribute], BLOCKS.starts[attribute + 1])
        if kind == "categorical":
            assert not variance[0, columns].any()
        else:
            drawn = x[:, columns].var(0).mean()
            torch.testing.assert_close(variance[0, columns], drawn.expand(BLOCKS.widths[attribute]), rtol=0.05, atol=0)


def test_bound_on_the_moments_is_the_mean_bound_on_drawn_samples(generator):
    """What phase 2 asks for: the expectation of log p(x | z') over x ~ p(x | z_s), for other outputs."""
    n_samples, n_draws = 7, 20_000
    case = random_case(BLOCKS, 1, 1)
    seed = torch.Generator().manual_seed(3)
    noise = torch.cat(list(SAMPLING._noise(case.mean, n_samples, TorchDraws(seed))))
    seed.manual_seed(3)  # the same samples of z
    moment, variance = sample_moments(case.mean, case.scale, case.decoders, n_samples=n_samples, draws=TorchDraws(seed))
    _, outputs = case.decoders.decode(case.mean + case.scale * noise)  # [S, 1, D]
    many = outputs.expand(-1, n_draws, -1).reshape(-1, 1, BLOCKS.n_columns)
    x = sample_data(many, case.decoders, TorchDraws(generator))[:, 0]
    other = torch.randn(1, BLOCKS.n_columns, generator=generator, dtype=torch.float64)

    def score(x, variance):
        total = 0.0
        for attribute, kind in enumerate(BLOCKS.kinds):
            columns = slice(BLOCKS.starts[attribute], BLOCKS.starts[attribute + 1])
            if kind == "categorical":
                total = total + (x[:, columns] * torch.log_softmax(other[:, columns], -1)).sum(1)
                continue
            scale = case.decoders.log_scale[columns].exp()
            square = (x[:, columns] - other[:, columns]) ** 2 + variance[:, columns]
            total = total - (0.5 * square / scale**2 + scale.log()).sum(1)
        return total

    drawn = score(x, torch.zeros_like(x))
    error = drawn.std() / len(drawn) ** 0.5
    assert (score(moment, variance) - drawn.mean()).abs() <= tolerances.STANDARD_ERRORS * error


def test_samples_of_a_quartet_differ_by_the_signs_of_both_halves():
    whole, rest = SAMPLING._noise(torch.zeros(17, 5), 13, StreamDraws(0))
    assert whole.shape == (8, 17, 5)
    assert rest.shape == (5, 17, 5)
    sign = torch.tensor([1.0, 1.0, -1.0, -1.0, -1.0])
    for first in (whole[:4], whole[4:], rest[:4]):
        assert torch.equal(first[1], -first[0])
        assert torch.equal(first[2], sign * first[0])
        assert torch.equal(first[3], -first[2])
    assert len(torch.cat([whole[::4], rest[::4]]).unique()) == 4 * 17 * 5


def test_noise_is_standard_normal():
    noise = torch.cat(list(SAMPLING._noise(torch.zeros(32, 6), 800, StreamDraws(1))))
    drawn = noise[::4].flatten()  # quartets share their squares
    error = tolerances.STANDARD_ERRORS * (2 / len(drawn)) ** 0.5
    assert abs(drawn.mean()) <= tolerances.STANDARD_ERRORS / len(drawn) ** 0.5
    assert abs(drawn.var() - 1) <= error


def test_no_gradient_reaches_the_sampling_pass():
    case = random_case(MIXED, 3, 1)
    case.mean.requires_grad_()
    case.decoders.output.weight.requires_grad_()
    moment, variance = sample_moments(
        case.mean, case.scale, case.decoders, n_samples=5, draws=TorchDraws(torch.Generator().manual_seed(0))
    )
    assert not moment.requires_grad
    assert not variance.requires_grad


@pytest.mark.parametrize(
    "layout",
    [MIXED, NUMERICAL_12, CATEGORICAL, BLOCKS, WIDE_BLOCKS],
    ids=["mixed", "numbers", "levels", "blocks", "wide-blocks"],
)
@pytest.mark.parametrize(("n_rows", "n_samples"), [(13, 1), (13, 10), (40, 3), (16, 37)])
@pytest.mark.parametrize("context", [False, True])
def test_kernel_draws_and_sums_what_the_reference_does(layout, n_rows, n_samples, context, level):
    case = random_case(layout, n_rows, 1, context=context, data_widths=(33, 20))
    (mean, scale, *_, decoders), keywords = case.arguments(torch.float32)
    options = {"n_samples": n_samples, "context": keywords["context"]}
    ours_draws, their_draws = StreamDraws(5), StreamDraws(5)
    for _ in range(2):  # the second call goes on in the streams
        ours = sample_moments(mean, scale, decoders, draws=ours_draws, backend="cpu", **options)
        theirs = sample_moments(mean, scale, decoders, draws=their_draws, backend="reference", **options)
        assert ours_draws.number == their_draws.number
        for a, b in zip(ours, theirs, strict=True):
            assert ((a - b).abs() <= 1e-4 * b.abs().clamp(min=1)).all()
    with torch_threads(3):
        again = sample_moments(mean, scale, decoders, draws=StreamDraws(5), backend="cpu", **options)
    with torch_threads(1):
        single = sample_moments(mean, scale, decoders, draws=StreamDraws(5), backend="cpu", **options)
    assert all(torch.equal(a, b) for a, b in zip(again, single, strict=True))


@pytest.mark.parametrize("widths", [{"mask_widths": (), "data_widths": (1,)}, {"n_latent": 1, "data_widths": (5, 3)}])
def test_least_networks(widths, level):
    case = random_case(MIXED, 3, 1, **widths)
    (mean, scale, *_, decoders), _ = case.arguments(torch.float32)
    ours, theirs = (
        sample_moments(mean, scale, decoders, n_samples=6, draws=StreamDraws(5), backend=backend)
        for backend in ("cpu", "reference")
    )
    for a, b in zip(ours, theirs, strict=True):
        assert ((a - b).abs() <= 1e-4 * b.abs().clamp(min=1)).all()


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
