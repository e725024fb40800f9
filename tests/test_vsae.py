import pytest
import torch

from tests import tolerances
from tests.random_models import MIXED, NUMERICAL_12, random_rows
from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.vsae import VSAE
from vsae_fast.objective import HideAndScore, TwoPhase
from vsae_fast.ops.draws import StreamDraws, TorchDraws

PAPER = NetworkConfig()
AUTO_LIKE = NetworkConfig(
    collective_hidden=(24, 24), data_hidden=(32, 32), mask_hidden=(16,), linear_tail=False, skip=True, fill="zero"
)


def trained_like(layout, config, generator, dtype=torch.float64):
    """A model whose batch norms have seen data, so that folding has something to fold."""
    torch.manual_seed(0)
    torch.manual_seed(0)  # initial parameters come from the global generator, whatever other tests drew from it
    model = VSAE(layout, config).to(dtype)
    for _ in range(3):
        x, mask = random_rows(layout, 64, generator)
        noise = torch.randn(64, layout.n_columns, generator=generator, dtype=torch.float64)
        latent = torch.randn(64, model.n_latent, generator=generator, dtype=torch.float64)
        model.elbo(x.to(dtype), mask.to(dtype), latent_noise=latent.to(dtype), fill_noise=noise.to(dtype))
    return model.eval()


@pytest.fixture(params=[PAPER, AUTO_LIKE], ids=["paper", "auto"])
def config(request):
    return request.param


@pytest.fixture(params=[MIXED, NUMERICAL_12], ids=["mixed", "numerical"])
def model(request, config, generator):
    return trained_like(request.param, config, generator)


def test_folded_decoders_equal_the_module(model, generator):
    x, mask = random_rows(model.layout, 13, generator)
    proposal = model.encode(x, mask)
    z = proposal.sample(torch.randn(5, 13, model.n_latent, generator=generator, dtype=torch.float64))
    expected = model.decode(z, proposal.hidden)
    folded = model.folded().decode(z, model.decoders.fold_context(proposal.hidden))
    for result, truth in zip(folded, expected, strict=True):
        torch.testing.assert_close(result, truth, rtol=tolerances.EXACT, atol=tolerances.EXACT)


def test_paper_decoder_folds_to_one_hidden_layer():
    decoders = VSAE(NUMERICAL_12, PAPER).eval().folded()
    assert len(decoders.data_layers) == 1
    assert tuple(decoders.output.weight.shape) == (12, 64)


def test_importance_sampling_equals_the_unfolded_formula(model, generator):
    """Log-weights from the module itself, term by term, without any of the algebra of the ops."""
    from torch.distributions import Bernoulli, Normal

    from tests.test_elbo import by_distributions

    n_samples = 40
    x, mask = random_rows(model.layout, 9, generator)
    fill = torch.randn(model.layout.n_columns, generator=generator, dtype=torch.float64)
    noise = torch.randn(n_samples, model.n_latent, generator=generator, dtype=torch.float64)
    result = model.impute(x, mask, noise, fill_noise=fill, backend="reference")
    with torch.no_grad():
        proposal = model.encode(x, mask, fill)
        z = proposal.mean + proposal.scale * noise.unsqueeze(1)
        mask_logits, output = model.decode(z, proposal.hidden)
        log_weight = (
            (mask * by_distributions(output, model.decoders.log_scale(), x, model.layout)).sum(-1)
            + Bernoulli(logits=mask_logits).log_prob(mask.expand_as(mask_logits)).sum(-1)
            + Normal(torch.zeros(()).double(), 1.0).log_prob(z).sum(-1)
            - Normal(proposal.mean, proposal.scale).log_prob(z).sum(-1)
        )
    weight = log_weight.softmax(0)
    evidence = log_weight.logsumexp(0) - torch.tensor(float(n_samples)).double().log()
    torch.testing.assert_close(result.log_evidence, evidence, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(result.effective_size, 1 / (weight**2).sum(0), rtol=1e-7, atol=0)
    for attribute, kind in enumerate(model.layout.kinds):
        block = slice(model.layout.starts[attribute], model.layout.starts[attribute + 1])
        value = output[..., block] if kind == "numerical" else output[..., block].softmax(-1)
        mean = (weight.unsqueeze(-1) * value).sum(0)
        expected = torch.where(mask[:, attribute : attribute + 1] > 0, x[:, block], mean)
        torch.testing.assert_close(result.imputed[:, block], expected, rtol=1e-8, atol=1e-8)


def test_observed_proposal_depends_on_its_own_attribute_alone(model, generator):
    layout = model.layout
    x, mask = random_rows(layout, 7, generator)
    mask[:, 0] = 1
    before = model.encode(x, mask).mean.view(7, layout.n_attributes, -1)
    changed = x.clone()
    changed[:, layout.starts[1] :] += torch.randn_like(changed[:, layout.starts[1] :])
    flipped = mask.clone()
    flipped[:, 1:] = 1 - flipped[:, 1:]
    for other_x, other_mask in ((changed, mask), (x, flipped)):
        after = model.encode(other_x, other_mask).mean.view(7, layout.n_attributes, -1)
        assert torch.equal(after[:, 0], before[:, 0])


def test_unobserved_proposal_does_not_see_unobserved_values(model, generator):
    x, mask = random_rows(model.layout, 7, generator)
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    hidden = torch.where(model.layout.expand(mask) > 0, x, 1e3 * torch.ones_like(x))
    before, after = model.encode(x, mask, noise), model.encode(hidden, mask, noise)
    unobserved = (mask == 0).repeat_interleave(model.config.latent_per_attribute, 1)
    assert torch.equal(before.mean[unobserved], after.mean[unobserved])
    assert torch.equal(before.log_variance[unobserved], after.log_variance[unobserved])
    seen = x.clone()
    seen[model.layout.expand(mask) > 0] += 0.5
    assert not torch.equal(model.encode(seen, mask, noise).mean[unobserved], before.mean[unobserved])


def test_no_gradient_reaches_the_sampling_pass(generator):
    model = trained_like(MIXED, PAPER, generator).train()
    x, mask = random_rows(MIXED, 16, generator)
    target, variance = TwoPhase().expected_target(model, x, mask, TorchDraws(generator))
    assert not target.requires_grad
    assert not variance.requires_grad
    assert model.training
    observed = MIXED.expand(mask) > 0
    assert torch.equal(target[observed], x[observed])
    assert (variance[observed] == 0).all()


def test_expected_values_stay_within_the_limit(generator):
    model = trained_like(MIXED, PAPER, generator)
    x, mask = random_rows(MIXED, 16, generator)
    with torch.no_grad():
        model.decoders.data.linears[-1].bias.fill_(50.0)
        model.decoders.data.linears[-1].weight.mul_(100.0)
    target, variance = TwoPhase().expected_target(model, 20 * x, mask, TorchDraws(generator))
    observed = MIXED.expand(mask) > 0
    assert torch.equal(target[observed], 20 * x[observed])  # what is known may lie anywhere
    numbers = MIXED.numerical_columns(x.device) & ~observed
    assert target[numbers].abs().max() == 10
    assert variance[numbers].max() == 100


def test_phase_two_gradient_is_that_of_a_fixed_target(generator):
    """With the target computed beforehand the loss and every gradient are the same: pass 1 is a constant."""
    model = trained_like(MIXED, PAPER, generator).train()
    x, mask = random_rows(MIXED, 16, generator)
    objective = TwoPhase(warmup_epochs=0, n_unobserved_samples=20)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    draws = StreamDraws(5)
    objective.loss(model, x, mask, 0, draws).backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.load_state_dict(state)
    model.zero_grad()
    draws = StreamDraws(5)
    target, variance = objective.expected_target(model, x, mask, draws)
    fill = draws.normal(tuple(x.shape), x)
    latent = draws.normal((16, model.n_latent), x)
    bound = model.elbo(
        x, mask, latent_noise=latent, fill_noise=fill, target=target, target_variance=variance,
        attribute_weight=torch.ones_like(mask),
    )  # fmt: skip
    (-bound.mean()).backward()
    for gradient, parameter in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_hide_and_score_hides_only_observed_cells(generator):
    mask = (torch.rand(2000, 12, generator=generator) < 0.5).float()
    visible = HideAndScore().hide(mask, TorchDraws(generator))
    assert ((visible == 0) | (mask == 1)).all()
    share = 1 - visible.sum() / mask.sum()
    assert abs(share - 0.45) < 0.02
    per_row = 1 - visible.sum(1) / mask.sum(1).clamp(min=1)
    assert per_row.std() > 0.2  # the share is drawn per row


def test_generate(model):
    generator = torch.Generator().manual_seed(0)
    x, mask = model.generate(50, generator=generator)
    assert x.shape == (50, model.layout.n_columns)
    assert mask.shape == (50, model.layout.n_attributes)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    assert torch.isfinite(x).all()
    again, _ = model.generate(50, generator=torch.Generator().manual_seed(0))
    assert torch.equal(x, again)
    with pytest.raises(ValueError, match="n_samples"):
        model.generate(0)


def test_log_evidence_bounds_the_elbo(generator):
    model = trained_like(MIXED, PAPER, generator, torch.float32)
    x, mask = (t.float() for t in random_rows(MIXED, 40, generator))
    evidence = model.log_evidence(x, mask, 2000, generator=generator)
    fill = torch.randn(MIXED.n_columns, generator=generator)
    with torch.no_grad():
        bounds = torch.stack(
            [
                model.elbo(x, mask, latent_noise=torch.randn(40, model.n_latent, generator=generator), fill_noise=fill)
                for _ in range(200)
            ]
        ).mean(0)
    assert bounds.mean() < evidence.mean()


def test_sampling_needs_evaluation_mode():
    model = VSAE(MIXED)
    with pytest.raises(RuntimeError, match=r"model\.eval\(\)"):
        model.generate(2)


def test_global_generator_is_left_alone_by_sampling(model):
    state = torch.get_rng_state()
    model.generate(3)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data_hidden": ()}, "data_hidden"),
        ({"latent_per_attribute": 0}, "latent_per_attribute"),
        ({"fill": "mean"}, "fill must be"),
    ],
)
def test_bad_configurations(options, message):
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**options)
