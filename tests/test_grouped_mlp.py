from itertools import pairwise

import pytest
import torch
from torch import nn

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
