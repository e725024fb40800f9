from itertools import pairwise

import pytest
import torch
from torch import nn

from tests import tolerances
from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.encoders import AttributiveEncoders
from vsae_fast.ops.grouped_mlp import BatchNormState, grouped_mlp, masked_batch_norm
from vsae_fast.ops.layout import AttributeLayout


def separate_networks(weights, biases, norms, slope):
    """The same networks as one nn.Sequential each."""
    networks = []
    for g in range(weights[0].shape[0]):
        modules = []
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            linear = nn.Linear(weight.shape[1], weight.shape[2]).double()
            linear.weight.data, linear.bias.data = weight[g].T.detach().clone(), bias[g].detach().clone()
            modules.append(linear)
            if layer < len(norms):
                norm = nn.BatchNorm1d(weight.shape[2]).double()
                norm.weight.data = norms[layer].weight[g].detach().clone()
                norm.bias.data = norms[layer].bias[g].detach().clone()
                modules += [norm, nn.LeakyReLU(slope)]
        networks.append(nn.Sequential(*modules))
    return networks


@pytest.fixture
def networks(generator):
    sizes, n_groups = (3, 5, 4, 2), 4

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weights = [randn(n_groups, a, b) for a, b in pairwise(sizes)]
    biases = [randn(n_groups, b) for b in sizes[1:]]
    norms = [
        BatchNormState(randn(n_groups, h), randn(n_groups, h), torch.zeros(n_groups, h).double(),
                       torch.ones(n_groups, h).double())
        for h in sizes[1:-1]
    ]  # fmt: skip
    x = randn(30, n_groups, sizes[0])
    mask = (torch.rand(30, n_groups, generator=generator) < 0.6).double()
    return weights, biases, norms, x, mask


def test_equals_separate_networks_over_observed_rows(networks):
    weights, biases, norms, x, mask = networks
    separate = separate_networks(weights, biases, norms, 0.01)
    for training in (True, False):
        result = grouped_mlp(x, mask, weights, biases, norms, training)
        for g, network in enumerate(separate):
            observed = mask[:, g] > 0
            network.train(training)
            torch.testing.assert_close(result[observed, g], network(x[observed, g]))
    for g, network in enumerate(separate):  # running statistics too
        torch.testing.assert_close(norms[0].running_mean[g], network[1].running_mean)
        torch.testing.assert_close(norms[1].running_var[g], network[4].running_var)


def test_gradients_equal_those_of_separate_networks(networks):
    weights, biases, norms, x, mask = networks
    for tensor in (*weights, *biases):
        tensor.requires_grad_()
    separate = separate_networks(weights, biases, norms, 0.01)
    result = grouped_mlp(x, mask, weights, biases, norms, training=True)
    (result * mask.unsqueeze(-1)).square().sum().backward()
    for g, network in enumerate(separate):
        network(x[mask[:, g] > 0, g]).square().sum().backward()
        torch.testing.assert_close(weights[0].grad[g], network[0].weight.grad.T)
        torch.testing.assert_close(biases[-1].grad[g], network[-1].bias.grad)


def run(networks, backend, dtype, training, n_rows=30):
    """Output, gradients and running statistics, in the order of their names."""
    weights, biases, norms, x, mask = networks
    leaves = [t.float().to(dtype).requires_grad_() for t in (x[:n_rows], *weights, *biases)]
    norm_leaves = [t.float().to(dtype).requires_grad_() for n in norms for t in (n.weight, n.bias)]
    states = [
        BatchNormState(*norm_leaves[2 * i : 2 * i + 2], n.running_mean.to(dtype) + 0.25, n.running_var.to(dtype) * 2)
        for i, n in enumerate(norms)
    ]
    k = 1 + len(weights)
    mask = mask[:n_rows].to(dtype)
    out = grouped_mlp(leaves[0], mask, leaves[1:k], leaves[k:], states, training, backend=backend)
    observed = out * mask.unsqueeze(-1)
    (observed.square() + observed * torch.arange(out.shape[-1], device=out.device)).sum().backward()
    statistics = [t for state in states for t in (state.running_mean, state.running_var)]
    gradients = [t.grad for t in (*leaves, *norm_leaves)]
    return [observed.detach(), *statistics, *gradients]


@pytest.mark.parametrize("n_rows", [1, 2, 17, 30])
@pytest.mark.parametrize("training", [True, False])
def test_kernel_is_as_good_as_eager(networks, training, n_rows, level):
    truth = run(networks, "reference", torch.float64, training, n_rows)
    eager = run(networks, "reference", torch.float32, training, n_rows)
    ours = run(networks, "cpu", torch.float32, training, n_rows)
    for a, b, exact in zip(ours, eager, truth, strict=True):
        scale = max(exact.abs().max().item(), 1.0)
        allowed = tolerances.TIMES_EAGER * max((b - exact).abs().max().item(), tolerances.GRADIENT_FLOOR * scale)
        assert (a - exact).abs().max().item() <= allowed


@pytest.mark.parametrize("sizes", [(1, 16, 16, 16, 4), (7, 33, 2), (3, 2)])
def test_kernel_of_other_sizes(sizes, level, generator):
    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weights = [randn(5, a, b) / a**0.5 for a, b in pairwise(sizes)]
    biases = [randn(5, b) for b in sizes[1:]]
    ones, zeros = (lambda h: torch.ones(5, h).double()), (lambda h: torch.zeros(5, h).double())
    norms = [BatchNormState(1 + 0.1 * randn(5, h), randn(5, h), zeros(h), ones(h)) for h in sizes[1:-1]]
    mask = (torch.rand(64, 5, generator=generator) < 0.6).double()
    test_kernel_is_as_good_as_eager((weights, biases, norms, randn(64, 5, sizes[0]), mask), True, 64, level)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_unobserved_inputs_are_never_read(networks, backend):
    weights, biases, norms, x, mask = networks
    poisoned = torch.where(mask.unsqueeze(-1) > 0, x, torch.nan)
    clean = run(networks, backend, torch.float32, True)
    dirty = run((weights, biases, norms, poisoned, mask), backend, torch.float32, True)
    for a, b in zip(clean, dirty, strict=True):
        assert torch.equal(a, b)


def test_op_passes_torch_checks(networks):
    weights, biases, norms, x, mask = networks
    single = lambda tensors: [t.float().requires_grad_() for t in tensors]  # noqa: E731
    arguments = (
        x.float().requires_grad_(), mask.float(), single(weights), single(biases), single(n.weight for n in norms),
        single(n.bias for n in norms), [n.running_mean.float() for n in norms], [n.running_var.float() for n in norms],
        True, 0.01, 1,
    )  # fmt: skip
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.vsae_fast.grouped_mlp.default, arguments, test_utils=tests)


def test_wrong_arguments_are_named(networks):
    weights, biases, norms, x, mask = networks
    with pytest.raises(ValueError, match=r"weights\[1\] must have shape \(4, 5, 4\)"):
        grouped_mlp(x, mask, [weights[0], weights[1][:, 1:], weights[2]], biases, norms, True)
    bad = BatchNormState(norms[0].weight, norms[1].bias, norms[0].running_mean, norms[0].running_var)
    with pytest.raises(ValueError, match=r"norms\[0\]\.bias must have shape"):
        grouped_mlp(x, mask, weights, biases, [bad, norms[1]], True)
    with pytest.raises(ValueError, match="one entry per layer"):
        grouped_mlp(x, mask, weights, biases, norms[:1], True)
    with pytest.raises(ValueError, match=r"biases\[0\] must be torch\.float64"):
        grouped_mlp(x, mask, weights, [biases[0].float(), *biases[1:]], norms, True)


def test_gradcheck(networks):
    weights, biases, norms, x, mask = networks
    x.requires_grad_()

    def observed_part(x, first):
        states = [BatchNormState(n.weight, n.bias, n.running_mean.clone(), n.running_var.clone()) for n in norms]
        return grouped_mlp(x, mask, [first, *weights[1:]], biases, states, training=True) * mask.unsqueeze(-1)

    assert torch.autograd.gradcheck(observed_part, (x, weights[0].requires_grad_()))


@pytest.mark.parametrize("n_observed", [0, 1])
def test_too_few_observed_rows_use_and_keep_running_statistics(n_observed, generator):
    h = torch.randn(6, 1, 3, generator=generator)
    mask = torch.zeros(6, 1)
    mask[:n_observed] = 1
    state = BatchNormState(torch.ones(1, 3), torch.zeros(1, 3), torch.full((1, 3), 0.5), torch.full((1, 3), 4.0))
    result = masked_batch_norm(h, mask, state, training=True)
    torch.testing.assert_close(result, (h - 0.5) / (4.0 + state.eps) ** 0.5)
    assert (state.running_mean == 0.5).all()
    assert (state.running_var == 4.0).all()


def test_attributes_keep_their_order_across_groups():
    """Networks are grouped by kind and width; results must come back in the order of the attributes."""
    layout = AttributeLayout(("categorical", "numerical", "categorical", "numerical"), (3, 1, 2, 1))
    encoders = AttributiveEncoders(layout, NetworkConfig()).eval()
    x, mask = torch.randn(5, layout.n_columns), torch.ones(5, 4)
    mean, log_variance = encoders(x, mask)
    assert mean.shape == log_variance.shape == (5, 4, 2)
    for attribute in range(4):
        changed = x.clone()
        changed[:, layout.starts[attribute] : layout.starts[attribute + 1]] += 1.0
        moved = (encoders(changed, mask)[0] - mean).abs().sum((0, 2)) > 0
        assert moved.tolist() == [a == attribute for a in range(4)]
