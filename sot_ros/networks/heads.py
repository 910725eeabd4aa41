"""Heads that turn search features into a box, and their decoding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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
        # Clamped as upstream does it, which keeps the logarithms of the focal loss finite; bf16 would round to 1 again.
        score, size = (self._branch(x, name).float().sigmoid().clamp(1e-4, 1 - 1e-4) for name in ("ctr", "size"))
        return score, size, self._branch(x, "offset")

    def _branch(self, x: Tensor, name: str) -> Tensor:
        for i in range(1, 6):
            x = getattr(self, f"conv{i}_{name}")(x)
        return x


class CornerHead(nn.Module):
    """STARK's corner head: two heat maps, whose expectations are the box's top-left and bottom-right corners.

    Names of layers, and with them the keys of the state dict, are those of `Corner_Predictor` in researchmm/Stark.
    """

    def __init__(self, in_channels: int, channels: int = 256):
        super().__init__()
        widths = [in_channels, channels, channels // 2, channels // 4, channels // 8]
        for corner in ("tl", "br"):
            for i in range(4):
                setattr(self, f"conv{i + 1}_{corner}", conv_bn_relu(widths[i], widths[i + 1]))
            setattr(self, f"conv5_{corner}", nn.Conv2d(widths[4], 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, n, n) -> boxes (B, 4) as x1, y1, x2, y2 in shares of the search region's side, and how sharply both
        corners are found (B,): the smaller of what `expected_corner` says of each, 0..1."""
        corners, sharpness = zip(*(expected_corner(self._branch(x, name)) for name in ("tl", "br")), strict=True)
        return torch.cat(corners, dim=1), torch.minimum(*sharpness)

    def _branch(self, x: Tensor, name: str) -> Tensor:
        for i in range(1, 6):
            x = getattr(self, f"conv{i}_{name}")(x)
        return x


def expected_corner(logits: Tensor, cell_offset: float = 0.0) -> tuple[Tensor, Tensor]:
    """Heat map (B, 1, n, n) -> its expected place (B, 2) as x, y in shares of the side, and how sharp it is (B,), 0..1.

    A cell stands for the point `cell_offset` cells from its top-left corner: 0 in STARK, 0.5 in STARK-Lightning.
    Sharp is the largest share of the probability that 2 x 2 cells hold: a corner between cells is spread over four.
    """
    n = logits.shape[-1]
    probability = logits.flatten(1).softmax(dim=1)
    at = (torch.arange(n, device=logits.device, dtype=probability.dtype) + cell_offset) / n
    x = (probability.view(-1, n, n).sum(dim=1) * at).sum(dim=1)
    y = (probability.view(-1, n, n).sum(dim=2) * at).sum(dim=1)
    windows = 4 * F.avg_pool2d(probability.view(-1, n, n), 2, stride=1)
    return torch.stack([x, y], dim=1), windows.flatten(1).amax(dim=1).clamp(max=1)


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


def cell_grid(n: int, device: torch.device) -> Tensor:
    """The column and row (2, n, n) of each of n x n cells."""
    at = torch.arange(n, device=device)
    return torch.stack(torch.meshgrid(at, at, indexing="xy"))


def over_neighbors(score: Tensor, size: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Sizes and offsets (B, 2, n, n) of a `CenterHead`, each the mean of what the 3 x 3 cells around it say.

    A cell's say is its squared score, and sizes are averaged in their logarithm. Boxes that neighbours find for one
    target differ by chance, so their mean is nearer to it than that of the best cell.
    """
    cell, say = cell_grid(score.shape[-1], score.device), score**2
    said = F.avg_pool2d(say * torch.cat([size.log(), cell + offset], dim=1), 3, stride=1, padding=1)
    size, center = (said / F.avg_pool2d(say, 3, stride=1, padding=1)).split(2, dim=1)
    return size.exp(), center - cell


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
