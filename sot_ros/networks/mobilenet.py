"""The first half of a MobileNetV2, with features of stride 16: the trunk of the models that are trained here.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018, in timm's layers and names.
"""

from __future__ import annotations

import timm
import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN as IMAGENET_MEAN
from timm.data import IMAGENET_DEFAULT_STD as IMAGENET_STD
from torch import Tensor, nn

from sot_ros.networks.folding import fold_batchnorm


class MobileTrunk(nn.Module):
    """(B, 3, H, W) RGB in 0..255 -> (B, 224, H/16, W/16): stride 16, and stride 8 folded into channels.

    Made from timm's `mobilenetv2_100`, random or trained, with BatchNorm folded into the convolutions.
    """

    FINE_CHANNELS = 32
    """Of the features of stride 8."""
    CHANNELS = 96 + 4 * FINE_CHANNELS

    def __init__(self, mobilenet: nn.Module | None = None):
        super().__init__()
        mobilenet = (mobilenet or timm.create_model("mobilenetv2_100")).eval()
        self.conv_stem, self.bn1, self.blocks = mobilenet.conv_stem, mobilenet.bn1, mobilenet.blocks[:5]
        fold_batchnorm(self)
        self.to(memory_format=torch.channels_last)  # a third faster on CPUs
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    @torch.no_grad()
    def center(self) -> None:
        """Let the bias of the first block act in the convolution after it, which computes the same but for rounding.

        Of a channel that hardly varies, BatchNorm makes weights up to 127 and a bias of 1974 that takes them back: in
        half precision what is left of the two is noise.
        """
        before, after = self.blocks[0][-1].conv_pw, self.blocks[1][0].conv_pw
        after.bias += after.weight.flatten(1) @ before.bias
        before.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.features((x - self.mean) / self.std)

    def features(self, x: Tensor) -> Tensor:
        """What `forward` returns, of RGB that is normalised as for ImageNet."""
        x = x.contiguous(memory_format=torch.channels_last)
        stride8 = self.blocks[:3](self.bn1(self.conv_stem(x)))
        stride16 = self.blocks[3:](stride8)
        return torch.cat([stride16, F.pixel_unshuffle(stride8, 2)], dim=1)


class MobilePatchEmbed(nn.Module):
    """Tokens of the trunk for a ViT: (B, 3, H, W) RGB, normalised as for ImageNet -> (B, H W / 256, dim)."""

    def __init__(self, dim: int):
        super().__init__()
        self.trunk = MobileTrunk()
        self.proj = nn.Linear(MobileTrunk.CHANNELS, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self.trunk.features(x).flatten(2).transpose(1, 2))
