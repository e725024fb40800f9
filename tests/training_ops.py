"""Checks of the ops of training on kernels that run without a GPU, whatever language they are written in."""

from contextlib import contextmanager
from importlib import import_module
from itertools import pairwise

import torch

from tests import tolerances
from tests.random_models import MIXED, random_case, random_rows
from tests.test_elbo import arguments, bound_and_gradients
from tests.test_grouped_mlp import run as run_grouped_mlp
from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.vsae import VSAE
from vsae_fast.objective import HideAndScore
from vsae_fast.ops import registry
from vsae_fast.ops.draws import StreamDraws
from vsae_fast.ops.fill_unobserved import fill_unobserved
from vsae_fast.ops.grouped_mlp import BatchNormState
from vsae_fast.ops.sample_moments import sample_moments
from vsae_fast.torch_training import TorchTrainer

DIFFERENTIABLE = {name: import_module(f"vsae_fast.ops.{name}") for name in ("elbo", "fill_unobserved", "grouped_mlp")}
SAMPLING = import_module("vsae_fast.ops.sample_moments").OP


@contextmanager
def once_more_on_the_cpu(backend):
    """The differentiable ops with a backend's kernels for tensors on the CPU, in a torch library of their own."""
    library = torch.library.Library(f"vsae_fast_{backend}_on_cpu", "DEF")
    for name, module in DIFFERENTIABLE.items():
        schema = str(getattr(torch.ops.vsae_fast, name).default._schema).removeprefix("vsae_fast::")
        library.define(schema)
        library.impl(name, getattr(module, f"_{backend}"), "CPU")
        torch.library.register_autograd(
            f"{library.ns}::{name}", module._backward, setup_context=module._setup_context, lib=library
        )
    yield library
    library._destroy()


def take_tensors_on_the_cpu(monkeypatch, backend, library):
    """Let ``backend`` of the ops of training take them."""
    for name, module in DIFFERENTIABLE.items():
        _choose(monkeypatch, backend, module.OP, getattr(getattr(torch.ops, library.ns), name))
        # What autograd calls on the way back.
        monkeypatch.setattr(torch.ops.vsae_fast, f"{name}_backward", getattr(module, f"_backward_{backend}"))
    _choose(monkeypatch, backend, SAMPLING, SAMPLING.on_gpu[backend])


def _choose(monkeypatch, backend, op, kernel):
    usual = op.select

    def select(asked, tensor):
        preferred = registry._preferred.get() if asked == "auto" else asked
        return kernel if preferred == backend and tensor.dtype == torch.float32 else usual(asked, tensor)

    monkeypatch.setattr(op, "select", select)


def assert_as_good_as_eager(ours, eager, truth):
    for a, b, exact in zip(ours, eager, truth, strict=True):
        scale = max(exact.abs().max().item(), 1.0) if exact.numel() else 1.0
        worst = (b - exact).abs().max().item() if exact.numel() else 0.0
        allowed = tolerances.TIMES_EAGER * max(worst, tolerances.GRADIENT_FLOOR * scale)
        assert a.shape == exact.shape
        assert not a.numel() or (a - exact).abs().max().item() <= allowed


# ---- fill_unobserved ------------------------------------------------------------------------------------------------


def check_fill_unobserved(backend, layout, noise_shape, generator):
    """Equal to the reference to the last bit; ``noise_shape`` ends with 0 in place of the columns."""
    x, mask = (t.float() for t in random_rows(layout, 17, generator))
    noise = None if noise_shape is None else torch.randn(*noise_shape[:-1], layout.n_columns, generator=generator)
    x = torch.where(layout.expand(mask) > 0, x, torch.nan)
    results = {}
    for which in (backend, "reference"):
        own = x.clone().requires_grad_()
        filled = fill_unobserved(own, mask, noise, layout, which)
        (filled * torch.arange(filled.numel()).view_as(filled)).sum().backward()
        results[which] = (filled, own.grad)
    for ours, theirs in zip(results[backend], results["reference"], strict=True):
        assert torch.equal(ours, theirs)
    assert fill_unobserved(x[:0], mask[:0], None, layout, backend).shape[0] == 0


# ---- elbo -----------------------------------------------------------------------------------------------------------


def check_elbo(backend, layout, n_rows, n_samples, generator, **options):
    case = arguments(layout, n_rows, n_samples, generator, **options)
    truth = bound_and_gradients(case, layout, "reference", torch.float64)
    eager = bound_and_gradients(case, layout, "reference", torch.float32)
    assert_as_good_as_eager(bound_and_gradients(case, layout, backend, torch.float32), eager, truth)


def check_elbo_never_reads_what_has_no_weight(backend, n_samples, generator):
    case = arguments(MIXED, 9, n_samples, generator)
    clean = bound_and_gradients(case, MIXED, backend, torch.float32)
    case["target"] = torch.where(MIXED.expand(case["mask"]) > 0, case["target"], torch.nan)
    dirty = bound_and_gradients(case, MIXED, backend, torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(clean, dirty, strict=True))


# ---- grouped_mlp ----------------------------------------------------------------------------------------------------


def check_grouped_mlp(backend, case, training=True, n_rows=None):
    rows = () if n_rows is None else (n_rows,)
    truth, eager = (
        run_grouped_mlp(case, "reference", dtype, training, *rows) for dtype in (torch.float64, torch.float32)
    )
    assert_as_good_as_eager(run_grouped_mlp(case, backend, torch.float32, training, *rows), eager, truth)


def networks_of(sizes, n_rows, generator):
    """Weights, biases, batch norms, inputs and mask of three networks."""

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weights = [randn(3, a, b) / a**0.5 for a, b in pairwise(sizes)]
    biases = [randn(3, b) for b in sizes[1:]]
    ones, zeros = (lambda h: torch.ones(3, h).double()), (lambda h: torch.zeros(3, h).double())
    norms = [BatchNormState(1 + 0.1 * randn(3, h), randn(3, h), zeros(h), ones(h)) for h in sizes[1:-1]]
    mask = (torch.rand(n_rows, 3, generator=generator) < 0.6).double()
    return weights, biases, norms, randn(n_rows, 3, sizes[0]), mask


def with_few_observed(case, n_observed):
    """The second network observed in so many rows."""
    weights, biases, norms, x, mask = case
    mask = mask.clone()
    mask[:, 1] = 0
    mask[:n_observed, 1] = 1
    return weights, biases, norms, x, mask


def check_grouped_mlp_never_reads_unobserved_inputs(backend, case):
    weights, biases, norms, x, mask = case
    clean = run_grouped_mlp(case, backend, torch.float32, True)
    dirty = (weights, biases, norms, torch.where(mask.unsqueeze(-1) > 0, x, torch.nan), mask)
    for a, b in zip(clean, run_grouped_mlp(dirty, backend, torch.float32, True), strict=True):
        assert torch.equal(a, b)


# ---- sample_moments -------------------------------------------------------------------------------------------------


def check_sample_moments(backend, layout, n_samples, context):
    case = random_case(layout, 5, 1, context=context, data_widths=(33, 20))
    results = {}
    for which, dtype in (("reference", torch.float64), ("eager", torch.float32), (backend, torch.float32)):
        (mean, scale, *_, decoders), keywords = case.arguments(dtype)
        results[which] = sample_moments(
            mean, scale, decoders, n_samples=n_samples, draws=StreamDraws(1), context=keywords["context"],
            backend="reference" if which == "eager" else which,
        )  # fmt: skip
    assert_as_good_as_eager(results[backend], results["eager"], results["reference"])


# ---- a whole training step ------------------------------------------------------------------------------------------


def check_steps(backend, objective, generator, n_steps=3):
    """Steps on the same noise have the losses of the float64 reference."""
    x, mask = random_rows(MIXED, 30, generator)
    losses = {}
    for which, dtype in (("reference", torch.float64), (backend, torch.float32)):
        torch.manual_seed(0)
        skip = isinstance(objective, HideAndScore)
        model = VSAE(MIXED, NetworkConfig(skip=skip, fill="zero" if skip else "noise")).to(dtype)
        trainer = TorchTrainer(model, objective, x.to(dtype), mask.to(dtype), draws=StreamDraws(3), backend=which)
        losses[which] = [float(trainer.step(torch.arange(30), epoch, 1e-3)) for epoch in range(n_steps)]
    for ours, exact in zip(losses[backend], losses["reference"], strict=True):
        assert abs(ours - exact) <= tolerances.TRAINING_RELATIVE * max(abs(exact), 1.0)
