import pytest
import torch

from tests import tolerances
from tests.random_models import CATEGORICAL, MIXED, NUMERICAL_12, ONE_CATEGORY, ONE_NUMBER, random_rows
from vsae_fast.imputation import chunk_rows
from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.vsae import VSAE
from vsae_fast.ops.propose import propose

LAYOUTS = {
    "numerical": NUMERICAL_12,
    "categorical": CATEGORICAL,
    "mixed": MIXED,
    "one number": ONE_NUMBER,
    "one category": ONE_CATEGORY,
}
AUTO = NetworkConfig(
    numerical_hidden=(16,), categorical_hidden=(16,), collective_hidden=(128, 128), data_hidden=(128,),
    mask_hidden=(16,), linear_tail=False, skip=True, fill="zero",
)  # fmt: skip


def trained_like(layout, config, generator):
    """A network whose batch norms are those of no fresh one."""
    torch.manual_seed(0)  # initial parameters come from the global generator, whatever other tests drew from it
    model = VSAE(layout, config)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.is_floating_point():
                change = 0.2 * torch.randn(tensor.shape, generator=generator)
                tensor += change.abs() if "running_var" in name else change
    return model.eval()


def both(model, x, mask, fill=None, **options):
    """The kernel in float32 and the reference in float64."""
    encoders = model.folded_encoders(torch.float32)
    encoders64 = encoders.to(torch.float64, torch.device("cpu"))
    truth = propose(x.double(), mask.double(), encoders64, fill=None if fill is None else fill.double())
    eager = propose(x, mask, encoders, fill=fill, backend="reference")
    return propose(x, mask, encoders, fill=fill, backend="cpu", **options), eager, truth


@pytest.mark.parametrize("n_rows", [1, 3, 17, 257])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("config", "n_fills"), [(NetworkConfig(), 0), (NetworkConfig(), 3), (AUTO, 0)])
def test_matches_float64_reference(layout, config, n_fills, n_rows, level, generator):
    model = trained_like(LAYOUTS[layout], config, generator)
    x, mask = (t.float() for t in random_rows(LAYOUTS[layout], n_rows, generator))
    fill = torch.randn(n_fills, LAYOUTS[layout].n_columns, generator=generator) if n_fills else None
    x = torch.where(LAYOUTS[layout].expand(mask) > 0, x, torch.nan)
    ours, eager, truth = both(model, x, mask, fill)
    assert (ours.context is None) == (not config.skip)
    for name in ("mean", "scale", "context"):
        if getattr(truth, name) is None:
            continue
        exact = getattr(truth, name)
        error, allowed = ((getattr(r, name) - exact).norm() / exact.norm() for r in (ours, eager))
        assert error <= tolerances.TIMES_EAGER * max(allowed, tolerances.EAGER_FLOOR), name


@pytest.mark.parametrize("config", [NetworkConfig(), AUTO])
def test_folding_changes_nothing(config, generator):
    model = trained_like(MIXED, config, generator).double()
    x, mask = random_rows(MIXED, 9, generator)
    noise = torch.randn(2, MIXED.n_columns, generator=generator, dtype=torch.float64)
    fill = noise if config.fill == "noise" else None
    folded = propose(x, mask, model.folded_encoders(), fill=fill)
    for p in range(folded.mean.shape[1]):
        with torch.no_grad():
            proposal = model.encode(x, mask, noise[p])
            torch.testing.assert_close(folded.mean[:, p], proposal.mean, rtol=0, atol=tolerances.EXACT)
            torch.testing.assert_close(folded.scale[:, p], proposal.scale, rtol=0, atol=tolerances.EXACT)
            if config.skip:
                context = model.decoders.fold_context(proposal.hidden)
                torch.testing.assert_close(folded.context[:, p], context, rtol=0, atol=tolerances.EXACT)


@pytest.mark.parametrize("observed", [0.0, 1.0])
def test_rows_all_observed_or_all_missing(observed, level, generator):
    x, mask = (t.float() for t in random_rows(MIXED, 5, generator, observed))
    ours, _, truth = both(trained_like(MIXED, AUTO, generator), x, mask)
    torch.testing.assert_close(ours.mean.double(), truth.mean, rtol=1e-5, atol=1e-5)


def test_log_variances_are_clamped(generator):
    model = trained_like(MIXED, AUTO, generator)
    with torch.no_grad():
        for linear in [model.collective.head.bias, *(encoder.biases[-1] for encoder in model.attributive.encoders)]:
            linear += 100.0
    x, mask = (t.float() for t in random_rows(MIXED, 5, generator))
    ours, _, truth = both(model, x, mask)
    assert (ours.scale == ours.scale.max()).all()
    torch.testing.assert_close(ours.scale.double(), truth.scale, rtol=1e-6, atol=0)


@pytest.mark.parametrize("config", [NetworkConfig(), AUTO])
def test_neighbours_threads_and_cuts_change_no_bit(config, level, generator):
    model = trained_like(MIXED, config, generator)
    x, mask = (t.float() for t in random_rows(MIXED, 300, generator))
    fill = torch.randn(2, MIXED.n_columns, generator=generator) if config.fill == "noise" else None
    encoders = model.folded_encoders()
    whole = propose(x, mask, encoders, fill=fill, backend="cpu", n_threads=1)
    for rows in (slice(0, 1), slice(5, 18), slice(95, 98), slice(7, 300), torch.randperm(300, generator=generator)):
        part = propose(x[rows], mask[rows], encoders, fill=fill, backend="cpu", n_threads=3)
        for ours, theirs in zip(part, whole, strict=True):
            assert ours is theirs or torch.equal(ours, theirs[rows])


def test_no_rows(generator):
    model = trained_like(MIXED, AUTO, generator)
    result = propose(torch.empty(0, 16), torch.empty(0, 5), model.folded_encoders(), backend="cpu")
    assert result.mean.shape == (0, 1, 10)
    assert result.context.shape == (0, 1, 128)


@pytest.mark.parametrize("config", [NetworkConfig(), AUTO])
def test_op_passes_torch_checks(config, generator):
    model = trained_like(MIXED, config, generator)
    x, mask = (t.float() for t in random_rows(MIXED, 4, generator))
    encoders = model.folded_encoders()
    own = [layer for layers in encoders.own for layer in layers]
    torch.library.opcheck(
        torch.ops.vsae_fast.propose.default,
        (
            x, mask, None, [layer.weight for layer in own], [layer.bias for layer in own],
            [len(layers) for layers in encoders.own], [layer.weight for layer in encoders.body],
            [layer.bias for layer in encoders.body], encoders.head.weight, encoders.head.bias, encoders.context,
            list(MIXED.widths), list(MIXED.kind_codes), 0.01, 1,
        ),
    )  # fmt: skip


def test_wrong_arguments_are_named(generator):
    encoders = trained_like(MIXED, AUTO, generator).folded_encoders()
    x, mask = (t.float() for t in random_rows(MIXED, 4, generator))
    with pytest.raises(ValueError, match=r"x must have shape \(4, 16\)"):
        propose(x[:, 1:], mask, encoders)
    with pytest.raises(ValueError, match=r"mask must have shape \(4, 5\)"):
        propose(x, mask[:2], encoders)
    with pytest.raises(ValueError, match=r"head must be torch\.float64"):
        propose(x.double(), mask.double(), encoders)
    with pytest.raises(ValueError, match="at least one row of noise"):
        propose(x, mask, encoders, fill=torch.empty(0, 16))
    with pytest.raises(ValueError, match="n_threads must be at least 1"):
        propose(x, mask, encoders, n_threads=0)
    with pytest.raises(ValueError, match="takes float32 tensors on the CPU"):
        propose(x.double(), mask.double(), encoders.to(torch.float64, x.device), backend="cpu")


@pytest.mark.parametrize(
    ("device", "n_samples", "n_columns", "expected"),
    [
        ("cpu", 1000, 12, 16384),
        ("cpu", 1000, 128, 4096),
        ("cpu", 1000, 1568, 2048),
        ("cuda", 1000, 12, 65536),
        ("cuda", 250, 1568, 2674),
        ("cuda", 10**6, 1568, 2048),
    ],
)
def test_narrow_tables_and_gpus_take_more_rows_at_once(device, n_samples, n_columns, expected):
    assert chunk_rows(torch.device(device), n_samples, n_columns) == expected
