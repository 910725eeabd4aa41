"""Heads that turn search features into a box, and their decoding."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CenterHead(nn.Module):
    """OSTrack's centre head: where the target's centre is, how far off the cell's corner, and how large it is.

    Names of layers, and with them the keys of the state dict, are those of `CenterPredictor` in botaoye/OSTrack.
    """

    def __init__(self, in_channels: int, channels: int = 256):
        super().__init__()
        for branch, out_channels in (("ctr", 1), ("offset", 2), ("size", 2)):
            widths = [in_channels, channels, channels // 2, channels // 4, channels // 8]
            for i in range(4):
                setattr(self, f"conv{i + 1}_{branch}", conv_bn_relu(widths[i], widths[i + 1]))
            setattr(self, f"conv5_{branch}", nn.Conv2d(widths[4], out_channels, 1))
        # Every cell starts as background with 0.1, the prior of CenterNet and RetinaNet for focal loss.
        nn.init.constant_(self.conv5_ctr.bias, -2.19)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, n, n) -> scores (B, 1, n, n) in 0..1, sizes (B, 2, n, n) as shares of the search region's side,
        and offsets (B, 2, n, n) in cells from the top-left corner of each cell."""
        # Clamped as upstream does it, which keeps the logarithms of the focal loss finite.
        score, size = (self._branch(x, name).sigmoid().clamp(1e-4, 1 - 1e-4) for name in ("ctr", "size"))
        return score, size, self._branch(x, "offset")

    def _branch(self, x: Tensor, name: str) -> Tensor:
        for i in range(1, 6):
            x = getattr(self, f"conv{i}_{name}")(x)
        return x


def conv_bn_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def hann_window(n: int) -> Tensor:
    """The (n, n) cosine window of OSTrack (`hann2d`), whose edges are above 0: 0.5 (1 - cos(2 pi k / (n + 1)))."""
    one = 0.5 * (1 - torch.cos(2 * torch.pi * torch.arange(1, n + 1) / (n + 1)))
    return one[:, None] * one[None, :]


def decode_center(choice: Tensor, size: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Read the box at the best cell of a `CenterHead`'s maps.

    choice (B, 1, n, n) says which cell is best: the scores, perhaps windowed. Returns the boxes (B, 4) as centre x,
    centre y, width, height in shares of the search region's side, and the index (B,) of the cell, row by row.
    """
    n = choice.shape[-1]
    index = choice.flatten(1).argmax(1)
    at = index[:, None, None].expand(-1, 2, 1)
    cell = torch.stack([index % n, index // n], dim=1)
    center = (cell + offset.flatten(2).gather(2, at)[..., 0]) / n
    return torch.cat([center, size.flatten(2).gather(2, at)[..., 0]], dim=1), index
