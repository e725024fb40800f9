import math

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence

from tests import tolerances
from tests.random_models import APART, CATEGORICAL, MIXED, NUMERICAL_12, random_rows
from tests.torch_threads import torch_threads
from vsae_fast.ops.elbo import (
    data_log_likelihood,
    elbo,
    gaussian_kl,
    importance_weighted_bound,
    log_prior_ratio,
    mask_log_likelihood,
)

LAYOUTS = pytest.mark.parametrize("layout", [MIXED, CATEGORICAL, NUMERICAL_12])


def by_distributions(output, log_scale, x, layout):
    """Log-likelihood of each attribute through torch.distributions, one attribute at a time."""
    terms = []
    for attribute, kind in enumerate(layout.kinds):
        block = slice(layout.starts[attribute], layout.starts[attribute + 1])
        if kind == "numerical":
            terms.append(Normal(output[..., block], log_scale[block].exp()).log_prob(x[..., block]).sum(-1))
        else:
            terms.append(Categorical(logits=output[..., block]).log_prob(x[..., block].argmax(-1)))
    return torch.stack(terms, -1)


@LAYOUTS
def test_likelihood_equals_torch_distributions(layout, generator):
    x, _ = random_rows(layout, 11, generator)
    output = torch.randn(3, 11, layout.n_columns, generator=generator, dtype=torch.float64)
    log_scale = torch.randn(layout.n_columns, generator=generator, dtype=torch.float64)
    expected = by_distributions(output, log_scale, x, layout)
    torch.testing.assert_close(data_log_likelihood(output, log_scale, x, layout), expected)


@LAYOUTS
def test_closed_form_equals_average_over_samples(layout, generator):
    """The expectation over 100 samples of x needs only their moments and frequencies, exactly."""
    output = torch.randn(7, layout.n_columns, generator=generator, dtype=torch.float64)
    log_scale = 0.5 * torch.randn(layout.n_columns, generator=generator, dtype=torch.float64)
    samples = torch.stack([random_rows(layout, 7, generator)[0] for _ in range(100)])
    brute = data_log_likelihood(output, log_scale, samples, layout).mean(0)
    moment, variance = samples.mean(0), samples.var(0, unbiased=False)
    closed = data_log_likelihood(output, log_scale, moment, layout, variance)
    torch.testing.assert_close(closed, brute, rtol=tolerances.EXACT, atol=tolerances.EXACT)


def test_mask_likelihood_and_kl_equal_torch_distributions(generator):
    logits = 5 * torch.randn(6, 4, generator=generator, dtype=torch.float64)
    mask = (torch.rand(6, 4, generator=generator) < 0.5).double()
    torch.testing.assert_close(mask_log_likelihood(logits, mask), Bernoulli(logits=logits).log_prob(mask))
    mean, log_variance = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    proposal, prior = Normal(mean, (0.5 * log_variance).exp()), Normal(torch.zeros(4).double(), 1.0)
    torch.testing.assert_close(gaussian_kl(mean, log_variance), kl_divergence(proposal, prior))
    z = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    ratio = (prior.log_prob(z) - proposal.log_prob(z)).sum(-1)
    torch.testing.assert_close(log_prior_ratio(z, mean, log_variance), ratio)


def test_elbo_is_its_parts_and_ignores_unweighted_attributes(generator):
    x, mask = random_rows(MIXED, 9, generator)
    output = torch.randn(9, MIXED.n_columns, generator=generator, dtype=torch.float64)
    logits = torch.randn(9, MIXED.n_attributes, generator=generator, dtype=torch.float64)
    mean, log_variance = torch.randn(2, 9, 10, generator=generator, dtype=torch.float64)
    log_scale = torch.zeros(MIXED.n_columns, dtype=torch.float64)
    arguments = (logits, x, mask, mean, log_variance, MIXED)
    bound = elbo(output, log_scale, *arguments, attribute_weight=mask)
    expected = (
        (mask * by_distributions(output, log_scale, x, MIXED)).sum(-1)
        + Bernoulli(logits=logits).log_prob(mask).sum(-1)
        - gaussian_kl(mean, log_variance).sum(-1)
    )
    torch.testing.assert_close(bound, expected)
    other = torch.where(MIXED.expand(mask) > 0, output, output + 1)
    assert torch.equal(elbo(other, log_scale, *arguments, attribute_weight=mask), bound)
    assert not torch.equal(elbo(other, log_scale, *arguments, attribute_weight=torch.ones_like(mask)), bound)


def test_gradients(generator):
    x, _ = random_rows(MIXED, 3, generator)
    output = torch.randn(3, MIXED.n_columns, generator=generator, dtype=torch.float64, requires_grad=True)
    log_scale = torch.randn(MIXED.n_columns, generator=generator, dtype=torch.float64, requires_grad=True)
    variance = torch.rand(3, MIXED.n_columns, generator=generator, dtype=torch.float64)
    function = lambda o, s: data_log_likelihood(o, s, x, MIXED, variance)  # noqa: E731
    assert torch.autograd.gradcheck(function, (output, log_scale))


def test_importance_weighted_bound_lies_between_the_elbo_and_the_evidence(generator):
    log_weight = torch.randn(50, 200, generator=generator, dtype=torch.float64)
    bounds = [importance_weighted_bound(log_weight[:k]).mean() for k in (1, 5, 50)]
    torch.testing.assert_close(bounds[0], log_weight[0].mean())
    assert bounds[0] < bounds[1] < bounds[2] < 0.5 + tolerances.STANDARD_ERRORS / math.sqrt(200)


# ---- the op and its kernel ------------------------------------------------------------------------------------------


def arguments(layout, n_rows, n_samples, generator, *, weight="mask", variance=False):
    """Keyword arguments of elbo in float64; ``n_samples`` 0 is the single-sample bound."""

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    samples = (n_samples,) if n_samples else ()
    x, mask = random_rows(layout, n_rows, generator)
    return {
        "output": 2 * randn(*samples, n_rows, layout.n_columns),
        "log_scale": 0.3 * randn(layout.n_columns),
        "mask_logits": 3 * randn(*samples, n_rows, layout.n_attributes),
        "target": x,
        "mask": mask,
        "mean": randn(n_rows, 5),
        "log_variance": randn(n_rows, 5),
        "attribute_weight": mask if weight == "mask" else torch.rand(mask.shape, generator=generator).double(),
        "target_variance": torch.rand(x.shape, generator=generator).double() if variance else None,
        "noise": randn(n_samples, n_rows, 5) if n_samples else None,
    }


LEAVES = ("output", "log_scale", "mask_logits", "mean", "log_variance")


def bound_and_gradients(case, layout, backend, dtype):
    case = {name: None if t is None else t.float().to(dtype) for name, t in case.items()}
    leaves = [case[name].requires_grad_() for name in LEAVES]
    bound = elbo(layout=layout, backend=backend, **case)
    (bound * torch.linspace(0.5, 1.5, len(bound), dtype=dtype)).sum().backward()
    return [bound.detach(), *(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("variance", [False, True])
@pytest.mark.parametrize("weight", ["mask", "other"])
@pytest.mark.parametrize(("n_rows", "n_samples"), [(1, 0), (17, 0), (130, 0), (1, 1), (5, 3), (70, 10), (3, 50)])
@pytest.mark.parametrize(
    "layout", [MIXED, CATEGORICAL, NUMERICAL_12, APART], ids=["mixed", "levels", "numbers", "apart"]
)
def test_kernel_is_as_good_as_eager(layout, n_rows, n_samples, weight, variance, level, generator):
    case = arguments(layout, n_rows, n_samples, generator, weight=weight, variance=variance)
    truth = bound_and_gradients(case, layout, "reference", torch.float64)
    eager = bound_and_gradients(case, layout, "reference", torch.float32)
    for ours, theirs, exact in zip(bound_and_gradients(case, layout, "cpu", torch.float32), eager, truth, strict=True):
        scale = max(exact.abs().max().item(), 1.0)
        floor = max((theirs - exact).abs().max().item(), tolerances.GRADIENT_FLOOR * scale)
        assert (ours - exact).abs().max().item() <= tolerances.TIMES_EAGER * floor


def test_levels_far_below_the_likeliest(level, generator):
    """Their shares are zeros, not denormal numbers, and an observed one among them is scored all the same."""
    case = arguments(CATEGORICAL, 40, 5, generator, weight="other")
    case["output"] *= 200
    truth = bound_and_gradients(case, CATEGORICAL, "reference", torch.float64)
    ours = bound_and_gradients(case, CATEGORICAL, "cpu", torch.float32)
    torch.testing.assert_close(ours[0].double(), truth[0], rtol=1e-5, atol=0)
    tiny = torch.finfo(torch.float32).tiny
    assert all(((gradient == 0) | (gradient.abs() >= tiny)).all() for gradient in ours[1:])


def test_kernel_of_several_tasks_does_not_depend_on_threads(generator):
    case = arguments(MIXED, 2000, 5, generator)
    results = []
    for n_threads in (1, 3):
        with torch_threads(n_threads):
            results.append(bound_and_gradients(case, MIXED, "cpu", torch.float32))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("n_samples", [0, 3])
def test_what_has_no_weight_is_never_read(backend, n_samples, generator):
    case = arguments(MIXED, 9, n_samples, generator)
    clean = bound_and_gradients(case, MIXED, backend, torch.float32)
    case["target"] = torch.where(MIXED.expand(case["mask"]) > 0, case["target"], torch.nan)
    dirty = bound_and_gradients(case, MIXED, backend, torch.float32)
    assert torch.equal(clean[0], dirty[0])
    if backend == "cpu":  # torch's own autograd multiplies a NaN by zero on the way back
        assert all(torch.equal(a, b) for a, b in zip(clean, dirty, strict=True))


def test_one_sample_of_the_importance_weighted_bound_is_the_sampled_elbo(generator):
    case = arguments(MIXED, 6, 1, generator)
    bound = elbo(layout=MIXED, **case)
    z = case["mean"] + (0.5 * case["log_variance"]).exp() * case["noise"][0]
    single = {**case, "output": case["output"][0], "mask_logits": case["mask_logits"][0], "noise": None}
    kl = gaussian_kl(case["mean"], case["log_variance"]).sum(-1)
    sampled = elbo(layout=MIXED, **single) + kl + log_prior_ratio(z, case["mean"], case["log_variance"])
    torch.testing.assert_close(bound, sampled)


@pytest.mark.parametrize("n_samples", [0, 3])
def test_gradients_of_the_reference(n_samples, generator):
    case = arguments(MIXED, 3, n_samples, generator, variance=True)
    leaves = [case[name].requires_grad_() for name in LEAVES]

    def function(*values):
        return elbo(layout=MIXED, **{**case, **dict(zip(LEAVES, values, strict=True))})

    assert torch.autograd.gradcheck(function, leaves)


def test_a_target_that_asks_for_a_gradient_gets_one(generator):
    case = {name: None if t is None else t.float() for name, t in arguments(MIXED, 4, 0, generator).items()}
    case["target"].requires_grad_()
    elbo(layout=MIXED, **case).sum().backward()
    assert case["target"].grad.abs().sum() > 0


@pytest.mark.parametrize("n_samples", [0, 3])
def test_op_passes_torch_checks(n_samples, generator):
    case = {k: None if t is None else t.float() for k, t in arguments(MIXED, 4, n_samples, generator).items()}
    order = ("output", "log_scale", "mask_logits", "target", "target_variance", "mask", "attribute_weight", "mean",
             "log_variance", "noise")  # fmt: skip
    if not n_samples:
        case["output"], case["mask_logits"] = case["output"].unsqueeze(0), case["mask_logits"].unsqueeze(0)
    for name in LEAVES:
        case[name].requires_grad_()
    call = (*(case[name] for name in order), list(MIXED.starts), list(MIXED.kind_codes), 1)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.vsae_fast.elbo.default, call, test_utils=tests)


def test_wrong_arguments_are_named(generator):
    case = arguments(MIXED, 4, 3, generator)
    for name, wrong in (("output", case["output"][:2]), ("noise", case["noise"][..., :2]), ("mask", case["mask"][:3])):
        with pytest.raises(ValueError, match="must have shape"):
            elbo(layout=MIXED, **{**case, name: wrong})
    with pytest.raises(ValueError, match=r"log_scale must be torch\.float64"):
        elbo(layout=MIXED, **{**case, "log_scale": case["log_scale"].float()})
    with pytest.raises(ValueError, match="takes float32"):
        elbo(layout=MIXED, backend="cpu", **case)
