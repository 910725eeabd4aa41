"""Layers that multiply whole numbers of 8 bits, for CPUs: in about half of fp32's time, even without VNNI.

A weight is rounded once, by a scale for each output channel; what a layer is given, on every frame, by one scale that
its smallest and largest value decide, those of all targets: how many there are changes the boxes a little. The rest of
the network stays in fp32. oneDNN computes the products, by the functions that PyTorch's Inductor calls for quantized
networks.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

LEVELS = 127
"""Largest number in use, of weights and, from 0 on, of what layers are given. With 255 in the latter, the 16 bits in
which CPUs without VNNI add two products would overflow."""
FEWEST_PRODUCTS = 96
"""Sums of fewer products, as in depthwise convolutions, gain nothing or lose: what they are given has to be rounded."""
FLOAT_OUTPUT = 1.0, 0, torch.float32, "none", [], ""
"""Arguments of oneDNN's functions for sums that are not rounded again, and that nothing is done to."""


def quantize(network: nn.Module) -> nn.Module:
    """The network, whose large layers compute in int8 from now on; its weights are lost to state_dict()."""
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            # Not their subclasses: nn.MultiheadAttention reads the weights of its own kind of nn.Linear.
            if type(layer) is nn.Linear and layer.in_features >= FEWEST_PRODUCTS:
                setattr(parent, name, Int8Linear(layer))
            elif type(layer) is nn.Conv2d and layer.weight[0].numel() >= FEWEST_PRODUCTS:
                setattr(parent, name, Int8Conv2d(layer))
    return network


@cache
def is_available() -> bool:
    """Whether PyTorch has these products on this machine's CPU, which is tried; no random number is used up by it."""
    try:
        with torch.inference_mode(), torch.random.fork_rng(devices=[]):
            Int8Linear(nn.Linear(8, 8))(torch.randn(1, 8))
            Int8Conv2d(nn.Conv2d(8, 8, 3))(torch.randn(1, 8, 4, 4))
    except (AttributeError, RuntimeError):
        return False
    return True


class Int8Linear(nn.Module):
    """What nn.Linear computes, in int8: (..., in_features) -> (..., out_features)."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        weight, self.scale = _round_weight(layer.weight)
        self.zero = torch.zeros(len(weight), dtype=torch.int)
        self.weight, self.bias = torch.ops.onednn.qlinear_prepack(weight, None), layer.bias

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight, self.scale, self.zero
        return torch.ops.onednn.qlinear_pointwise(*_round(x), *weight, self.bias, *FLOAT_OUTPUT)


class Int8Conv2d(nn.Module):
    """What nn.Conv2d with zeros as padding computes, in int8: (B, C, H, W) -> (B, C', H', W')."""

    def __init__(self, layer: nn.Conv2d):
        super().__init__()
        self.geometry = layer.stride, layer.padding, layer.dilation, layer.groups
        weight, self.scale = _round_weight(layer.weight)
        self.zero = torch.zeros(len(weight), dtype=torch.int)
        self.weight, self.bias = torch.ops.onednn.qconv_prepack(weight, self.scale, 1.0, 0, *self.geometry), layer.bias

    def forward(self, x: Tensor) -> Tensor:
        # In the order of channels_last, in which rounding and products are fastest.
        x, scale, zero = _round(x.permute(0, 2, 3, 1).contiguous())
        given = x.permute(0, 3, 1, 2), scale, zero
        weight = self.weight, self.scale, self.zero
        return torch.ops.onednn.qconv2d_pointwise(*given, *weight, self.bias, *self.geometry, *FLOAT_OUTPUT)


def _round_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (C', ...) as whole numbers, -127 to 127, and the scale (C',) to multiply them by."""
    weight = weight.detach()
    scale = weight.flatten(1).abs().amax(1).clamp(min=1e-9) / LEVELS
    return (weight / scale.view(-1, *[1] * (weight.dim() - 1))).round().to(torch.int8), scale


def _round(x: Tensor) -> tuple[Tensor, float, int]:
    """Numbers as whole ones, 0 to 127, the scale to multiply them by, and which of them stands for 0."""
    low, high = (bound.item() for bound in torch.aminmax(x))
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / LEVELS, 1e-9)
    zero = round(-low / scale)
    # Cut off half a step higher, which rounds. By way of int8, for PyTorch has no fast way from floats to uint8.
    return torch.add(torch.tensor(zero + 0.5), x, alpha=1 / scale).to(torch.int8).view(torch.uint8), scale, zero
