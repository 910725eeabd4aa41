"""SiamFC's network: one AlexNet for template and search region, joined by cross-correlation.

Bertinetto et al., "Fully-Convolutional Siamese Networks for Object Tracking", 2016. Names of modules and layers,
and with them the keys of the state dict, are those of huanglianghua/siamfc-pytorch.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 8
"""Input pixels for one step in the response map."""


def conv_bn_relu(in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, kernel, stride, groups=groups),
        nn.BatchNorm2d(out_channels, eps=1e-6, momentum=0.05),
        nn.ReLU(inplace=True),
    ]


class AlexNet(nn.Module):
    """(B, 3, H, W) RGB in 0..255 -> (B, 256, h, w); without padding, so 127 pixels give 6 cells and 255 give 22."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Sequential(*conv_bn_relu(3, 96, 11, stride=2), nn.MaxPool2d(3, 2))
        self.conv2 = nn.Sequential(*conv_bn_relu(96, 256, 5, groups=2), nn.MaxPool2d(3, 2))
        self.conv3 = nn.Sequential(*conv_bn_relu(256, 384, 3))
        self.conv4 = nn.Sequential(*conv_bn_relu(384, 384, 3, groups=2))
        self.conv5 = nn.Sequential(nn.Conv2d(384, 256, 3, groups=2))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv5(self.conv4(self.conv3(self.conv2(self.conv1(x)))))


class SiamFC(nn.Module):
    """Response maps of templates over search regions."""

    RESPONSE_SCALE = 0.001
    """Keeps the response near 1, as in training upstream (`SiamFC.out_scale`)."""

    def __init__(self):
        super().__init__()
        self.backbone = AlexNet()

    def embed(self, z: Tensor) -> Tensor:
        """Templates (B, 3, 127, 127) -> template features (B, 256, 6, 6), to be kept while the targets are tracked."""
        return self.backbone(z)

    def forward(self, template: Tensor, x: Tensor) -> Tensor:
        """Template features (B, 256, 6, 6) and S search regions for each of them, (B S, 3, 255, 255), those of the
        first template first -> responses (B S, 1, 17, 17)."""
        batch = len(template)
        # Templates are the groups of one convolution, and their S search regions its batch.
        features = self.backbone(x).unflatten(0, (batch, -1)).transpose(0, 1).flatten(1, 2)
        responses = F.conv2d(features, template, groups=batch) * self.RESPONSE_SCALE
        return responses.transpose(0, 1).flatten(0, 1)[:, None]

    def compare(self, templates: Tensor, x: Tensor) -> Tensor:
        """Template features (J, 256, 6, 6), search regions (I, 3, H, W) -> responses (I, J, h, w) of all to all."""
        return F.conv2d(self.backbone(x), templates) * self.RESPONSE_SCALE


def siamfc() -> SiamFC:
    """SiamFC with the grouped AlexNet (AlexNetV1) of the published checkpoints."""
    return SiamFC()


SIAMTRACKERS_NAMES = {
    "features.features.0.": "backbone.conv1.0.",
    "features.features.1.": "backbone.conv1.1.",
    "features.features.4.": "backbone.conv2.0.",
    "features.features.5.": "backbone.conv2.1.",
    "features.features.8.": "backbone.conv3.0.",
    "features.features.9.": "backbone.conv3.1.",
    "features.features.11.": "backbone.conv4.0.",
    "features.features.12.": "backbone.conv4.1.",
    "features.features.14.": "backbone.conv5.0.",
}
"""Prefixes in checkpoints of HonglinChu/SiamTrackers, and ours."""
