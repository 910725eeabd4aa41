"""Convolutions that do the work of the BatchNorm after them, too."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.ops import FrozenBatchNorm2d


def fold_batchnorm(network: nn.Module) -> nn.Module:
    """Make each convolution and the BatchNorm registered right after it one convolution, in place; returns the network.

    It computes the same but for rounding, and can no longer be trained as it was. What timm's BatchNormAct2d does
    besides, its activation, stays in its place. Raises AssertionError for a network that is not in eval().
    """
    children = list(network.named_children())
    for (name, layer), (next_name, following) in zip(children, children[1:], strict=False):
        if isinstance(layer, nn.Conv2d) and isinstance(following, (nn.BatchNorm2d, FrozenBatchNorm2d)):
            setattr(network, name, fuse_conv_bn_eval(layer, following))
            setattr(network, next_name, getattr(following, "act", nn.Identity()))
    for _, child in children:
        fold_batchnorm(child)
    return network
