"""Layers in int8: as near to fp32's as their rounding allows, and only where they are faster."""

import platform

import numpy as np
import pytest
import torch
from golden import synthetic_clip as clip
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import sot_ros
from sot_ros.trackers import int8
from sot_ros.trackers.int8 import LEVELS, Int8Conv2d, Int8Linear, quantize

# Not on x86, whose PyTorch has them: there, tests that skip would hide that our calls of them are wrong.
pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" and not int8.is_available(), reason="PyTorch has no products in int8 for this CPU"
)
positive = st.integers(1, 24)


def largest_error(layer, x):
    """What rounding both factors of each product by half a step can add up to, and a little for fp32's own rounding."""
    geometry = {k: getattr(layer, k) for k in ("stride", "padding", "dilation", "groups") if hasattr(layer, k)}
    multiply = nn.functional.conv2d if geometry else nn.functional.linear
    per_output = layer.weight.flatten(1).abs().amax(1).view(-1, *[1] * (layer.weight.dim() - 1))
    off_weight = (per_output / LEVELS / 2).expand_as(layer.weight)
    off_x = (x.max().clamp(min=0) - x.min().clamp(max=0)) / LEVELS / 2
    by_weight = multiply(x.abs() + off_x, off_weight, **geometry)
    by_x = multiply(torch.ones_like(x) * off_x, layer.weight.abs(), **geometry)
    return by_weight + by_x + 1e-4


def check(layer, fast, x):
    with torch.inference_mode():
        expected, found = layer(x), fast(x)
        assert found.shape == expected.shape
        assert ((found - expected).abs() <= largest_error(layer, x)).all()


@settings(deadline=None)
@given(positive, positive, st.integers(1, 40), st.sampled_from([-1.0, 0.0, 1.0]), st.booleans(), st.integers(0, 99))
def test_a_linear_layer_is_as_near_as_its_rounding(rows, inputs, outputs, shift, bias, seed):
    torch.manual_seed(seed)
    layer = nn.Linear(inputs, outputs, bias)
    check(layer, Int8Linear(layer), torch.randn(1, rows, inputs) + 3 * shift)


@settings(deadline=None)
@given(positive, positive, st.sampled_from([1, 3, 5]), st.integers(1, 2), st.integers(0, 2), st.integers(0, 99))
def test_a_convolution_is_as_near_as_its_rounding(inputs, outputs, kernel, stride, padding, seed):
    torch.manual_seed(seed)
    groups = 2 if inputs % 2 == outputs % 2 == 0 else 1
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups)
    check(layer, Int8Conv2d(layer), torch.randn(2, inputs, 7, 9))


def test_whole_numbers_in_range_are_multiplied_exactly():
    torch.manual_seed(0)
    layer, x = nn.Linear(200, 30), torch.randint(0, LEVELS + 1, (5, 200)).float()
    layer.weight.data = torch.randint(-LEVELS, LEVELS + 1, (30, 200)).float()
    layer.weight.data[:, 0] = x[0, 0] = LEVELS
    with torch.inference_mode():
        assert torch.allclose(Int8Linear(layer)(x), layer(x), rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 2.0, -2.0])
def test_inputs_that_are_all_alike_are_no_special_case(value):
    layer = nn.Linear(16, 4)
    check(layer, Int8Linear(layer), torch.full((1, 3, 16), value))


def test_only_layers_with_many_products_are_changed_and_none_whose_weights_others_read():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.large, self.small = nn.Linear(256, 8), nn.Linear(8, 256)
            self.full, self.depthwise = nn.Conv2d(64, 64, 3), nn.Conv2d(64, 64, 3, groups=64)
            self.attention = nn.MultiheadAttention(256, 4)

    network = quantize(Network())
    assert [type(network.large), type(network.full)] == [Int8Linear, Int8Conv2d]
    assert [type(network.small), type(network.depthwise)] == [nn.Linear, nn.Conv2d]
    assert isinstance(network.attention.out_proj, nn.Linear)
    x = torch.randn(5, 1, 256)
    assert network.attention(x, x, x)[0].shape == x.shape


@pytest.mark.parametrize(
    "model", ["sot_mobile", "siamfc", "stark_lightning", "stark_st50", "swintrack_tiny", "ostrack_tiny", "simtrack_b16"]
)
def test_every_family_finds_in_int8_what_it_finds_in_fp32(model):
    """Within half a pixel in the mean, both put on the same box before each frame."""
    boxes = []
    for precision in ("fp32", "int8"):
        torch.manual_seed(0)
        weights = None if model == "sot_mobile" else "random"
        tracker = sot_ros.create_tracker(model, weights, "cpu", precision, compile="off")
        tracker.initialize(clip.frame(0), clip.box(0))
        found = []
        for t in range(1, 3):
            tracker.box = clip.box(t - 1)
            found.append(tracker.track(clip.frame(t)).box)
        boxes.append(found)
    assert any(isinstance(m, (Int8Linear, Int8Conv2d)) for m in tracker.network.modules())
    assert np.abs(np.subtract(*boxes)).mean() < 0.5


def test_where_there_are_no_such_products_it_is_refused(monkeypatch):
    monkeypatch.setattr(int8, "is_available", lambda: False)
    with pytest.raises(ValueError, match="precision 'int8' refused: cpu has no such products"):
        sot_ros.create_tracker(device="cpu", precision="int8")
