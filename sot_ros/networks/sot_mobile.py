"""The network of the default model: a MobileNetV2 trunk, correlation with the template on two levels, joint layers."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from sot_ros.networks.heads import CenterHead
from sot_ros.networks.mobilenet import MobileTrunk

STRIDE = 16
TEMPLATE_SIZE = 128
TEMPLATE_FACTOR = 2.0
"""Side of what the template shows, in square roots of the target's area."""
SEARCH_SIZE = 224
SEARCH_FACTOR = 3.5
"""The same of the search region."""
MAX_CHANGE = 4.0
"""Largest factor by which a target is found wider or higher than its template."""


class Template(NamedTuple):
    """What is kept of the target: tokens (B, 64, D), what share (B, 64) of each token's cell it fills, the width and
    height (B, 2) of its box as shares of the template's side, and finer tokens (B, 256, 32), four for each of the 64,
    whose length is that share of their cells."""

    tokens: Tensor
    foreground: Tensor
    extent: Tensor
    fine: Tensor


class SotMobile(nn.Module):
    """Finds the target of a template in a search region of n x n cells.

    Sizes are found as changes of the template box's: which part of an object is meant, only that box tells.
    """

    def __init__(self, dim: int = 160, depth: int = 4, heads: int = 5, head_channels: int = 64):
        super().__init__()
        cells, search_cells = (TEMPLATE_SIZE // STRIDE) ** 2, (SEARCH_SIZE // STRIDE) ** 2
        self.trunk = MobileTrunk()
        self.project = nn.Linear(MobileTrunk.CHANNELS, dim)
        self.project_norm = nn.LayerNorm(dim)
        self.correlation = nn.Linear(cells + 4, dim)
        self.fine_project = nn.Linear(MobileTrunk.FINE_CHANNELS, MobileTrunk.FINE_CHANNELS)
        self.fine_norm = nn.LayerNorm(MobileTrunk.FINE_CHANNELS)
        # Of the four fine cells in each search cell, with all fine cells of the template.
        self.cell_correlation = nn.Linear(4 * (4 * cells), dim)
        self.foreground = nn.Parameter(torch.zeros(2, dim))
        self.template_position = nn.Parameter(torch.zeros(1, cells, dim))
        self.search_position = nn.Parameter(torch.zeros(1, search_cells, dim))
        self.joint = nn.Sequential(*(Block(dim, heads, mlp_ratio=2.0, qkv_bias=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.box_head = CenterHead(dim, head_channels)
        # A random rotation keeps the angles between the trunk's features, so that correlation is of use from the start.
        nn.init.orthogonal_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        for table in (self.foreground, self.template_position, self.search_position):
            nn.init.trunc_normal_(table, std=0.02)

    def embed(self, z: Tensor, extent: Tensor) -> Template:
        """The template of the targets in the middle of z.

        z (B, 3, 128, 128) is RGB in 0..255; extent (B, 2) the targets' width and height as shares of its side.
        """
        centered = torch.cat([torch.full_like(extent, 0.5), extent], dim=1)
        tokens, fine = self._tokens(z)
        n = z.shape[-1] // STRIDE
        fine_share = _by_cell(coverage(centered, 2 * n).unflatten(1, (1, 2 * n, 2 * n)))
        return Template(tokens, coverage(centered, n), extent, fine * fine_share)

    def forward(self, template: Template, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Search regions (B, 3, 224, 224), RGB in 0..255 -> scores, sizes and offsets as of `CenterHead`."""
        return self.search(template, x)[:3]

    def search(self, template: Template, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What `forward` returns, and the tokens (B, n * n, D) of the search regions."""
        z, (x, fine) = template.tokens, self._tokens(x)
        fill = template.foreground[..., None]
        coarse = self.correlation(_correlate(z, x, template.foreground))
        # Products with all fine cells of the template, of the four fine cells in each search cell together.
        products = (fine @ template.fine.transpose(1, 2)).reshape(*x.shape[:2], -1)
        search = x + coarse + self.cell_correlation(products) + self.search_position
        z = z + self.template_position + fill * self.foreground[0] + (1 - fill) * self.foreground[1]
        tokens = self.norm(self.joint(torch.cat([z, search], dim=1))[:, z.shape[1] :])
        n = SEARCH_SIZE // STRIDE
        score, change, offset = self.box_head(tokens.transpose(1, 2).unflatten(2, (n, n)))
        unchanged = template.extent * TEMPLATE_FACTOR / SEARCH_FACTOR
        return score, unchanged[..., None, None] * MAX_CHANGE ** (2 * change - 1), offset, x

    def _tokens(self, patch: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) -> tokens (B, H W / 256, D), and finer ones of length 1, (B, H W / 64, 32), by the cell that
        they lie in."""
        features = self.trunk(patch)
        fine = _four_to_a_cell(features[:, -4 * MobileTrunk.FINE_CHANNELS :])
        fine = F.normalize(self.fine_norm(self.fine_project(fine)), dim=-1)
        return self.project_norm(self.project(features.flatten(2).transpose(1, 2))), fine


def coverage(box: Tensor, n: int) -> Tensor:
    """Share (B, n * n) of each of n x n cells that boxes (B, 4) cover: cx, cy, w, h as shares of the side."""
    edges = torch.linspace(0, 1, n + 1, device=box.device)
    center, half = box[:, :2, None], box[:, 2:, None] / 2
    cover = (torch.minimum(center + half, edges[1:]) - torch.maximum(center - half, edges[:-1])).clamp(min=0) * n
    return (cover[:, 1, :, None] * cover[:, 0, None, :]).flatten(1)


def appearance(tokens: Tensor, box: Tensor) -> Tensor:
    """What boxes show: the mean (B, D), of length 1, of the tokens (B, n * n, D) that they cover, as in `coverage`."""
    share = coverage(box, math.isqrt(tokens.shape[1]))
    return F.normalize((tokens * share[..., None]).sum(1), dim=-1)


def _correlate(z: Tensor, x: Tensor, foreground: Tensor) -> Tensor:
    """Cosine of each search token with every template token, then the mean and maximum over target and background."""
    cosine = F.normalize(x, dim=-1) @ F.normalize(z, dim=-1).transpose(1, 2)
    summary = []
    for share in (foreground[:, None], 1 - foreground[:, None]):
        summary.append((cosine * share).sum(-1) / share.sum(-1).clamp(min=1e-3))
        summary.append(((cosine + 1) * share).amax(-1) - 1)
    return torch.cat([cosine, torch.stack(summary, dim=-1)], dim=-1)


def _four_to_a_cell(unshuffled: Tensor) -> Tensor:
    """Maps (B, 4 C, n, n) of `F.pixel_unshuffle` -> (B, 4 n n, C): cell after cell, the four finer ones of each row by
    row."""
    return unshuffled.unflatten(1, (-1, 4)).permute(0, 3, 4, 2, 1).flatten(1, 3)


def _by_cell(maps: Tensor) -> Tensor:
    """Maps (B, C, 2 n, 2 n) -> (B, 4 n n, C), in the same order."""
    return _four_to_a_cell(F.pixel_unshuffle(maps, 2))


def sot_mobile() -> SotMobile:
    """The shipped default: 160 channels, four joint layers."""
    return SotMobile()
