"""A tracker's network does the work of its BatchNorm in the convolutions before it, with the same result."""

import copy

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from sot_ros.networks.folding import fold_batchnorm
from sot_ros.trackers.examples import deviation, example_inputs
from sot_ros.trackers.models import find_model

NORMS = nn.BatchNorm2d, FrozenBatchNorm2d


def trained(network):
    """The network as if it had been trained: with statistics and factors that do something."""
    for norm in (m for m in network.modules() if isinstance(m, NORMS)):
        for tensor in (norm.weight, norm.running_var):
            nn.init.uniform_(tensor, 0.5, 1.5)
        for tensor in (norm.bias, norm.running_mean):
            nn.init.normal_(tensor, 0, 0.2)
    return network.eval()


@pytest.mark.parametrize("model", ["siamfc", "stark_s50", "stark_lightning", "ostrack_tiny", "simtrack_b16"])
def test_a_network_finds_the_same_without_its_batchnorm(model):
    torch.manual_seed(0)
    row = find_model(model)
    network = trained(row.build(row.settings))
    tracker = row.tracker(copy.deepcopy(network), row.settings, torch.device("cpu"))
    assert not any(isinstance(m, NORMS) for m in tracker.network.modules())
    inputs = example_inputs(tracker)["compute"]
    with tracker.inference():
        folded = tracker.compute(*inputs)
        tracker.network = network
        assert deviation(tracker.compute(*inputs), folded) < 1e-4


def test_batchnorm_that_follows_no_convolution_stays():
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)).eval()
    fold_batchnorm(network)
    assert [type(m) for m in network] == [nn.BatchNorm2d, nn.Conv2d, nn.ReLU, nn.BatchNorm2d]


def test_a_network_that_is_being_trained_is_refused():
    with pytest.raises(AssertionError):
        fold_batchnorm(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
