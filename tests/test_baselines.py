"""The models that the VSAE is compared with: each is what it says, none is a VSAE in disguise."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from tests.random_models import CATEGORICAL, MIXED, random_rows
from vsae_fast.baseline_objectives import EvidenceBound, ImportanceWeighted, Subsampled
from vsae_fast.models import CVAE, HIVAE, MIWAE, MVAE, VAE, VSAE, Autoencoder, NetworkConfig
from vsae_fast.models.likelihoods import Standardisation, expected, log_likelihood, n_parameters
from vsae_fast.models.matching import n_parameters as size
from vsae_fast.models.matching import widened
from vsae_fast.models.mvae import product_of_experts
from vsae_fast.ops.draws import StreamDraws
from vsae_fast.ops.elbo import data_log_likelihood, gaussian_kl
from vsae_fast.ops.layout import AttributeLayout
from vsae_fast.training import TrainingPlan, train

SMALL = NetworkConfig(
    numerical_hidden=(8,), categorical_hidden=(8,), collective_hidden=(12,), mask_hidden=(4,), data_hidden=(16,)
)
BUILDS = [Autoencoder, VAE, CVAE, MVAE, HIVAE, MIWAE]
OBJECTIVES = {MVAE: Subsampled(), MIWAE: ImportanceWeighted(5)}


def build(model, layout=MIXED, seed=0, dtype=torch.float64, config=SMALL):
    torch.manual_seed(seed)
    made = model(layout, config).to(dtype)
    x, mask = rows(layout, 64, seed)
    for _ in range(3):  # running statistics that are not the initial ones
        made.train()
        made.encode(x.to(dtype), mask.to(dtype), torch.randn(x.shape, dtype=dtype))
        made.elbo(x.to(dtype), mask.to(dtype), latent_noise=torch.randn(64, made.n_latent, dtype=dtype))
    return made.eval()


def rows(layout, n, seed=0, observed=0.6):
    return random_rows(layout, n, torch.Generator().manual_seed(seed), observed)


@pytest.mark.parametrize("model", BUILDS)
def test_training_raises_the_validation_score_and_repeats(model):
    x, mask = (t.float() for t in rows(MIXED, 120))
    plan = TrainingPlan(epochs=12, batch_size=16, learning_rate=5e-3, validation_fraction=0.2)
    scores = []
    for _ in range(2):
        torch.manual_seed(1)
        made = model(MIXED, SMALL)
        history = train(made, x, mask, OBJECTIVES.get(model, EvidenceBound()), plan, torch.Generator().manual_seed(3))
        scores.append(history.score)
    assert max(scores[0]) > scores[0][0]
    assert scores[0] == scores[1]


@pytest.mark.parametrize("model", BUILDS)
@pytest.mark.parametrize("layout", [MIXED, CATEGORICAL], ids=["mixed", "categorical"])
def test_what_stands_in_a_hole_is_never_read(model, layout):
    made = build(model, layout)
    x, mask = rows(layout, 30)
    observed = layout.expand(mask) > 0
    other = torch.where(observed, x, 1e6)
    noise, fill = torch.randn(50, made.n_latent, dtype=x.dtype), torch.randn(x.shape, dtype=x.dtype)
    a, b = (made.impute(data, mask, noise, fill_noise=fill) for data in (x, other))
    torch.testing.assert_close(a.imputed, b.imputed, rtol=1e-9, atol=1e-9)
    bounds = [made.elbo(data, mask, latent_noise=noise[:30], fill_noise=fill) for data in (x, other)]
    torch.testing.assert_close(*bounds)
    assert torch.equal(a.imputed[observed], x[observed])


@pytest.mark.parametrize("model", [VAE, CVAE, MVAE, MIWAE])
def test_kernel_imputes_as_the_float64_reference(model):
    made = build(model)
    x, mask = rows(MIXED, 33)
    noise, fill = torch.randn(101, made.n_latent, dtype=x.dtype), torch.randn(x.shape, dtype=x.dtype)
    exact = made.impute(x, mask, noise, fill_noise=fill, backend="reference")
    single = made.float().impute(x.float(), mask.float(), noise.float(), fill_noise=fill.float(), backend="cpu")
    torch.testing.assert_close(single.imputed.double(), exact.imputed, rtol=2e-4, atol=2e-4)
    torch.testing.assert_close(single.log_evidence, exact.log_evidence, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("model", [VAE, CVAE, MIWAE, MVAE])
def test_evidence_has_no_share_of_a_mask(model):
    """With a data decoder that ignores z the evidence is the likelihood itself, to the last nat."""
    made = build(model)
    with torch.no_grad():
        made.decoders.data.linears[-1].weight.zero_()
    x, mask = rows(MIXED, 20)
    if model is MVAE:  # whose proposal, narrower than the posterior (the prior here), is not for this estimate
        mask = torch.zeros_like(mask)
    bias = made.decoders.data.linears[-1].bias
    likelihood = data_log_likelihood(bias.expand_as(x), made.decoders.log_scale(), x, MIXED)
    exact = torch.where(mask > 0, likelihood, 0.0).sum(-1)
    noise = torch.randn(20_000, made.n_latent, dtype=x.dtype)
    estimate = made.impute(x, mask, noise, backend="reference").log_evidence
    torch.testing.assert_close(estimate, exact, rtol=0, atol=0.1)
    proposal = made.encode(x, mask)
    bound = made.elbo(x, mask, latent_noise=noise[:20])
    divergence = gaussian_kl(proposal.mean, proposal.log_variance).sum(-1)
    torch.testing.assert_close(bound, exact - divergence)


def test_autoencoder_has_no_divergence_and_nothing_to_sample():
    made = build(Autoencoder)
    x, mask = rows(MIXED, 25)
    fill = torch.randn(x.shape, dtype=x.dtype)
    noise = torch.randn(2, 25, made.n_latent, dtype=x.dtype)
    bounds = [made.elbo(x, mask, latent_noise=e, fill_noise=fill) for e in noise]
    assert torch.equal(*bounds)
    _, output = made.decode(made.encode(x, mask, fill).mean)
    likelihood = data_log_likelihood(output, made.decoders.log_scale(), x, MIXED)
    torch.testing.assert_close(bounds[0], torch.where(mask > 0, likelihood, 0.0).sum(-1))
    imputed = [made.impute(x, mask, e, fill_noise=fill).imputed for e in noise]
    assert torch.equal(*imputed)


def test_vae_does_not_see_the_mask_and_cvae_does():
    layout = AttributeLayout(("numerical",) * 3, (1, 1, 1))
    x = torch.randn(6, 3, dtype=torch.float64)
    masks = torch.ones(6, 3, dtype=torch.float64), torch.zeros(6, 3, dtype=torch.float64)
    for model, equal in ((VAE, True), (Autoencoder, True), (CVAE, False), (VSAE, False)):
        made = build(model, layout)
        means = [made.encode(x, mask, x).mean for mask in masks]  # the fill is the value itself
        assert torch.allclose(*means) == equal, model
    made = build(CVAE, layout)
    z = torch.randn(6, made.n_latent, dtype=torch.float64)
    assert not torch.allclose(*(made.decode(z, mask)[1] for mask in masks))


def test_product_of_experts_is_the_normalised_product_of_the_densities():
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 1, 4, 1, generator=generator, dtype=torch.float64)
    weight = torch.tensor([[1.0, 0.0, 1.0, 1.0]], dtype=torch.float64)
    grid = np.linspace(-12, 12, 200_001)
    density = stats.norm.pdf(grid)
    for i in (0, 2, 3):
        density *= stats.norm.pdf(grid, mean[0, i, 0], math.exp(0.5 * log_variance[0, i, 0]))
    density /= density.sum()
    centre = (density * grid).sum()
    got_mean, got_log_variance = product_of_experts(mean, log_variance, weight)
    assert got_mean.item() == pytest.approx(centre, abs=1e-9)
    assert got_log_variance.exp().item() == pytest.approx((density * (grid - centre) ** 2).sum(), rel=1e-7)


def test_mvae_without_anything_observed_is_the_prior():
    made = build(MVAE)
    x, mask = rows(MIXED, 5)
    proposal = made.encode(x, torch.zeros_like(mask))
    assert not proposal.mean.any()
    assert not proposal.log_variance.any()


def test_subsampled_is_the_sum_of_its_bounds():
    layout = AttributeLayout(("numerical", "categorical"), (3, 4))
    made = build(MVAE, layout)
    x, mask = rows(layout, 40)
    loss = Subsampled().loss(made, x, mask, 0, StreamDraws(7))
    draws = StreamDraws(7)
    total = 0.0
    for kept in ([1, 1], [1, 0], [0, 1]):  # together, then each one alone; two attributes have no other subsets
        part = mask * torch.tensor(kept, dtype=x.dtype)
        total -= made.elbo(x, part, latent_noise=draws.normal((40, made.n_latent), x)).mean()
    torch.testing.assert_close(loss, total)


def test_subsampled_asks_each_expert_once(monkeypatch):
    made = build(MVAE).train()
    x, mask = rows(MIXED, 20)
    calls = []
    own = made.experts.forward
    monkeypatch.setattr(made.experts, "forward", lambda *given: calls.append(given) or own(*given))
    Subsampled(n_subsets=2).loss(made, x, mask, 0, StreamDraws(7)).backward()
    assert len(calls) == 1
    with pytest.raises(TypeError, match="Subsampled trains an MVAE, got VAE; use EvidenceBound"):
        Subsampled().loss(build(VAE), x, mask, 0, StreamDraws(7))


def test_miwae_bound_grows_with_the_samples():
    made = build(MIWAE)
    x, mask = rows(MIXED, 400)
    bounds = [ImportanceWeighted(k).score(made, x, mask, StreamDraws(1)).mean().item() for k in (1, 5, 50)]
    evidence = made.log_evidence(x, mask, 5000, generator=torch.Generator().manual_seed(0)).mean().item()
    assert bounds[0] < bounds[1] < bounds[2] < evidence
    elbo = EvidenceBound(50).score(made, x, mask, StreamDraws(2)).mean().item()
    assert bounds[0] == pytest.approx(elbo, abs=0.2)


def test_miwae_and_mvae_and_hivae_read_no_fill():
    x, mask = rows(MIXED, 10)
    for model in (MIWAE, MVAE, HIVAE):
        made = build(model)
        means = [made.encode(x, mask, fill).mean for fill in (None, torch.full_like(x, 9.0))]
        assert torch.equal(*means), model


# ---- HI-VAE's likelihoods -------------------------------------------------------------------------------------------

UNIT = Standardisation(torch.tensor([1.5], dtype=torch.float64), torch.tensor([0.7], dtype=torch.float64))


def softplus(value):
    return np.log1p(np.exp(value))


def parameters(likelihood, width=1, seed=0):
    return torch.randn(
        11, n_parameters(likelihood, width), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def test_real_is_normal_and_positive_is_log_normal():
    p = parameters("real")
    value = torch.rand(11, 1, dtype=torch.float64) + 0.3
    mean, std = 1.5 + 0.7 * p[:, 0].numpy(), 0.7 * np.sqrt(softplus(p[:, 1].numpy()))
    np.testing.assert_allclose(log_likelihood("real", p, value, UNIT), stats.norm.logpdf(value[:, 0], mean, std))
    np.testing.assert_allclose(
        log_likelihood("positive", p, value, UNIT), stats.lognorm.logpdf(value[:, 0], std, scale=np.exp(mean))
    )
    np.testing.assert_allclose(expected("real", p, UNIT)[:, 0], mean)
    np.testing.assert_allclose(expected("positive", p, UNIT)[:, 0], stats.lognorm.median(std, scale=np.exp(mean)))


def test_standardised_values_need_no_unit_but_where_they_must_be_positive():
    p = parameters("real")
    value = torch.rand(11, 1, dtype=torch.float64)
    none = Standardisation(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    torch.testing.assert_close(log_likelihood("real", p, value, None), log_likelihood("real", p, value, none))
    torch.testing.assert_close(expected("real", p, None), expected("real", p, none))
    for likelihood in ("positive", "count"):
        with pytest.raises(ValueError, match="positive numbers and counts need their unit"):
            log_likelihood(likelihood, parameters(likelihood), value, None)
        with pytest.raises(ValueError, match="positive numbers and counts need their unit"):
            expected(likelihood, parameters(likelihood), None)


def test_count_is_poisson():
    p = parameters("count")
    value = torch.arange(11, dtype=torch.float64)[:, None]
    rate = 0.7 * softplus(p[:, 0].numpy()) + 1e-6
    np.testing.assert_allclose(log_likelihood("count", p, value, UNIT), stats.poisson.logpmf(value[:, 0], rate))
    np.testing.assert_allclose(expected("count", p, UNIT)[:, 0], rate)


def test_categorical_is_multinomial():
    p = parameters("categorical", 4)
    value = torch.nn.functional.one_hot(torch.arange(11) % 4, 4).double()
    chances = np.exp(p.numpy()) / np.exp(p.numpy()).sum(1, keepdims=True)
    ours = log_likelihood("categorical", p, value, UNIT)
    counts = value.numpy().astype(int)
    exact = [stats.multinomial.logpmf(v, 1, c / c.sum()) for v, c in zip(counts, chances, strict=True)]
    np.testing.assert_allclose(ours, exact)
    np.testing.assert_allclose(expected("categorical", p, UNIT), chances)


def test_ordinal_is_a_cut_logistic():
    p = parameters("ordinal", 4)
    h, steps = p[:, 0].numpy(), p[:, 1:].numpy()
    cuts = np.cumsum(softplus(steps), axis=1)
    below = stats.logistic.cdf(cuts - h[:, None])
    chances = np.diff(np.column_stack([np.zeros(11), below, np.ones(11)]), axis=1)
    np.testing.assert_allclose(expected("ordinal", p, UNIT), chances, rtol=1e-6)
    value = torch.nn.functional.one_hot(torch.arange(11) % 4, 4).double()
    np.testing.assert_allclose(
        log_likelihood("ordinal", p, value, UNIT), np.log(chances[np.arange(11), np.arange(11) % 4]), rtol=1e-6
    )


@pytest.mark.parametrize("encoder", ["dropout", "factorised"])
def test_hivae_of_all_kinds_trains_and_imputes_in_range(encoder):
    layout = AttributeLayout(("numerical", "numerical", "numerical", "categorical", "categorical"), (1, 1, 1, 3, 4))
    random = np.random.default_rng(0)
    n = 200
    factor = random.normal(size=n)
    raw = np.column_stack([factor + 0.3 * random.normal(size=n), np.exp(factor), random.poisson(np.exp(0.5 * factor))])
    mean, std = raw.mean(0), raw.std(0)
    levels = [np.eye(k)[np.clip(np.digitize(factor, np.linspace(-1, 1, k - 1)), 0, k - 1)] for k in (3, 4)]
    x = torch.tensor(np.column_stack([(raw - mean) / std, *levels]), dtype=torch.float32)
    mask = torch.tensor(random.random((n, 5)) < 0.7, dtype=torch.float32)
    padding = torch.tensor([0.0] * 7)
    torch.manual_seed(0)
    made = HIVAE(
        layout,
        SMALL,
        likelihoods=("real", "positive", "count", "categorical", "ordinal"),
        mean=torch.cat([torch.tensor(mean, dtype=torch.float32), padding]),
        std=torch.cat([torch.tensor(std, dtype=torch.float32), padding + 1]),
        encoder=encoder,
    )
    garbage = torch.where(layout.expand(mask) > 0, x, -1e9)  # the log of a negative value must not reach a gradient
    plan = TrainingPlan(epochs=40, batch_size=20, learning_rate=1e-2, validation_fraction=0.1)
    history = train(made, garbage, mask, EvidenceBound(), plan, torch.Generator().manual_seed(0))
    assert max(history.score) > history.score[0]
    imputed = made.impute(garbage, mask, torch.randn(200, made.n_latent)).imputed
    values = imputed[:, :3].numpy() * std + mean
    assert np.isfinite(values).all()
    assert (values[:, 1:] > 0).all()
    torch.testing.assert_close(imputed[:, 3:6].sum(1), torch.ones(n))
    hidden = mask.numpy()[:, 1] == 0
    error = (values[hidden, 1] - raw[hidden, 1]) ** 2
    assert error.mean() < ((raw[:, 1].mean() - raw[hidden, 1]) ** 2).mean()


def test_hivae_imputes_with_the_weights_of_its_likelihoods_attribute_by_attribute():
    kinds = ("numerical", "categorical", "numerical", "numerical", "categorical", "numerical")
    likelihoods = ("real", "categorical", "positive", "real", "ordinal", "real")
    layout = AttributeLayout(kinds, (70, 3, 1, 66, 4, 2))
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    columns = layout.column_attribute(torch.device("cpu"))
    mean, std = torch.where(columns == 2, 2.0, 0.0).double(), torch.where(columns == 2, 0.4, 1.0).double()
    torch.manual_seed(0)
    made = HIVAE(layout, SMALL, likelihoods=likelihoods, mean=mean, std=std).double().eval()
    n, k = 9, 25
    x, noise = draw(n, layout.n_columns), draw(k, made.n_latent)
    for begin, width in ((70, 3), (140, 4)):
        x[:, begin : begin + width] = torch.eye(width, dtype=x.dtype)[torch.arange(n) % width]
    mask = (draw(n, 6) < 0.3).double()
    mask[0], mask[1] = 0.0, 1.0
    found = made.impute(x, mask, noise)

    proposal = made.encode(x, mask)
    z = proposal.sample(noise.unsqueeze(1))
    _, output = made.decode(z)
    log_w = 0.5 * ((noise**2).sum(-1).unsqueeze(-1) - (z**2).sum(-1) + proposal.log_variance.sum(-1))
    values, end = [], 0
    for j, likelihood in enumerate(likelihoods):
        cells = slice(layout.starts[j], layout.starts[j + 1])
        begin, end = end, end + n_parameters(likelihood, layout.widths[j])
        unit = Standardisation(torch.log(mean[cells]), std[cells] / mean[cells]) if likelihood == "positive" else None
        raw = (x * std + mean)[:, cells].clamp_min(1e-3) if likelihood == "positive" else x[:, cells]
        term = log_likelihood(likelihood, output[..., begin:end], raw, unit)
        log_w = log_w + mask[:, j] * (term + (torch.log(std[cells]).sum() if likelihood == "positive" else 0.0))
        value = expected(likelihood, output[..., begin:end], unit)
        values.append((value - mean[cells]) / std[cells] if likelihood == "positive" else value)
    weight = torch.softmax(log_w, 0)
    imputed = torch.where(layout.expand(mask) > 0, x, (weight.unsqueeze(-1) * torch.cat(values, -1)).sum(0))
    torch.testing.assert_close(found.imputed, imputed)
    torch.testing.assert_close(found.log_evidence, torch.logsumexp(log_w, 0) - np.log(k))
    torch.testing.assert_close(found.effective_size, 1 / (weight**2).sum(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"likelihoods": ("real",)}, "likelihoods has 1 entries, but there are 2 attributes"),
        ({"likelihoods": ("normal", "categorical")}, "attribute 0: unknown likelihood 'normal'"),
        ({"likelihoods": ("real", "count")}, "attribute 1 is categorical and cannot have the likelihood 'count'"),
        ({"likelihoods": ("count", "categorical")}, "positive and count attributes need mean and std"),
        ({"encoder": "both"}, "unknown encoder 'both'"),
    ],
)
def test_hivae_refuses_what_does_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        HIVAE(AttributeLayout(("numerical", "categorical"), (1, 3)), SMALL, **options)


def test_hivae_has_no_draws_and_no_other_targets():
    made = build(HIVAE)
    x, mask = rows(MIXED, 4)
    noise = torch.randn(4, made.n_latent, dtype=x.dtype)
    with pytest.raises(ValueError, match="use n_draws=0"):
        made.impute(x, mask, noise, n_draws=1)
    with pytest.raises(ValueError, match="leave target and target_variance out"):
        made.elbo(x, mask, latent_noise=noise, target=x)


# ---- size and trainers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", BUILDS)
@pytest.mark.parametrize("layout", [MIXED, CATEGORICAL], ids=["mixed", "categorical"])
def test_at_least_as_many_parameters_as_the_vsae_and_hardly_more(model, layout):
    config = NetworkConfig()
    goal = size(VSAE(layout, config))
    ours = size(model(layout, widened(model, layout, config)))
    smallest = size(model(layout, config))
    assert goal <= ours <= max(1.1 * goal, smallest)


def test_cpp_trainer_refuses_what_it_cannot_train():
    x, mask = (t.float() for t in rows(MIXED, 40))
    with pytest.raises(ValueError, match=r"backend='cpu' trains .* use backend='reference'"):
        train(HIVAE(MIXED, SMALL), x, mask, EvidenceBound(), TrainingPlan(epochs=1), torch.Generator(), backend="cpu")


def test_evaluation_mode_is_asked_for():
    x, mask = (t.float() for t in rows(MIXED, 4))
    for model in BUILDS:
        made = model(MIXED, SMALL)
        with pytest.raises(RuntimeError, match=f"{model.__name__}.impute needs evaluation mode"):
            made.impute(x, mask, torch.randn(3, made.n_latent))
