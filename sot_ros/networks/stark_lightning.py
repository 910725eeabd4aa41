"""STARK-Lightning's network: a short RepVGG-A0, one attention layer from the search region to all, a light corner head.

Source of every constant: lib/models/stark/stark_lightning_x_trt.py, repvgg.py and experiments/stark_lightning_X_trt in
researchmm/Stark. RepVGG: Ding et al., "RepVGG: Making VGG-style ConvNets Great Again", 2021; `reparameterize_model` of
timm turns its three branches into one convolution for inference.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from timm.models.byobnet import RepVggBlock
from torch import Tensor, nn
from torchvision.ops import box_convert

from sot_ros.networks.heads import expected_corner
from sot_ros.networks.stark import SEARCH_SIZE, STRIDE, TEMPLATE_SIZE, EncoderLayer, Tokens, join

STAGES = {"stage1": (48, 2), "stage2": (96, 4), "stage3": (192, 4)}
"""Channels and number of blocks; RepVGG-A0 itself has 14 blocks in stage 3 and a stage 4."""


class RepVgg(nn.Sequential):
    """(B, 3, H, W) -> (B, 192, H/16, W/16). BatchNorm always runs on its stored statistics, in training too."""

    def __init__(self):
        super().__init__()
        self.stage0 = RepVggBlock(3, 48, stride=2)
        channels = 48
        for name, (width, depth) in STAGES.items():
            blocks = [RepVggBlock(channels, width, stride=2), *(RepVggBlock(width, width) for _ in range(depth - 1))]
            self.add_module(name, nn.Sequential(*blocks))
            channels = width

    def train(self, mode: bool = True) -> RepVgg:
        return super().train(False)


class LearnedPositions(nn.Module):
    """One vector per column and one per row of n x n cells."""

    def __init__(self, n: int, dim: int):
        super().__init__()
        self.row_embed = nn.Embedding(n, dim // 2)
        self.col_embed = nn.Embedding(n, dim // 2)
        nn.init.uniform_(self.row_embed.weight)
        nn.init.uniform_(self.col_embed.weight)

    def forward(self) -> Tensor:
        """-> (n n, dim), row by row: the column's vector, then the row's."""
        row, column = self.row_embed.weight, self.col_embed.weight
        n = len(row)
        return torch.cat([column[None].expand(n, n, -1), row[:, None].expand(n, n, -1)], dim=-1).flatten(0, 1)


class LightCornerHead(nn.Module):
    """`CornerHead` with one tower for both corners. A cell stands for its middle."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv_tower = nn.Sequential(
            RepVggBlock(channels, channels), RepVggBlock(channels, channels), nn.Conv2d(channels, 2, 3, padding=1)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, n, n) -> boxes (B, 4) as x1, y1, x2, y2 in shares of the search region's side, and how sharply both
        corners are found (B,), 0..1, as `CornerHead` has it."""
        maps = self.conv_tower(x).split(1, dim=1)
        corners, sharpness = zip(*(expected_corner(m, cell_offset=0.5) for m in maps), strict=True)
        return torch.cat(corners, dim=1), torch.minimum(*sharpness)


class StarkLightning(nn.Module):
    """Finds the target of one template in a search region."""

    def __init__(self, dim: int = 128, heads: int = 8, hidden: int = 1024):
        super().__init__()
        self.backbone = nn.ModuleDict({"body": RepVgg()})
        self.bottleneck = nn.Conv2d(STAGES["stage3"][0], dim, 1)
        self.pos_emb_z0 = LearnedPositions(TEMPLATE_SIZE // STRIDE, dim)
        self.pos_emb_x = LearnedPositions(SEARCH_SIZE // STRIDE, dim)
        self.transformer = nn.ModuleDict({"encoder": EncoderLayer(dim, heads, hidden)})
        self.box_head = LightCornerHead(dim)

    def embed(self, patch: Tensor, padding: Tensor) -> Tokens:
        """Templates (B, 3, 128, 128), normalised as for ImageNet, and their padding (B, 128, 128) bool -> 64 tokens."""
        return self._tokens(patch, padding, self.pos_emb_z0)

    def forward(self, templates: Sequence[Tokens], patch: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """One template, and search regions (B, 3, 320, 320) with their padding (B, 320, 320) bool.

        Returns boxes (B, 4), centre x, centre y, width, height as shares of the search region's side, and how sharply
        their corners are found (B,), 0..1.
        """
        search = self._tokens(patch, padding, self.pos_emb_x)
        tokens = join(*templates, search)
        query = search.features + search.positions
        key = tokens.features + tokens.positions
        # The residual starts from the query, position included: so the published weights were trained.
        x = self.transformer["encoder"](query, query, key, tokens.features, tokens.padding)
        n = patch.shape[-1] // STRIDE
        corners, score = self.box_head(x.transpose(1, 2).unflatten(2, (n, n)))
        return box_convert(corners, "xyxy", "cxcywh"), score

    def _tokens(self, patch: Tensor, padding: Tensor, positions: LearnedPositions) -> Tokens:
        features = self.bottleneck(self.backbone["body"](patch)).flatten(2).transpose(1, 2)
        padding = padding[:, ::STRIDE, ::STRIDE].flatten(1)
        return Tokens(features, positions().expand(len(patch), -1, -1), padding)


def stark_lightning() -> StarkLightning:
    """STARK-Lightning in the form in which it is trained and published."""
    return StarkLightning()


_BLOCKS = (
    "backbone.body.stage0",
    *(f"backbone.body.{stage}.{i}" for stage, (_, depth) in STAGES.items() for i in range(depth)),
    "box_head.conv_tower.0",
    "box_head.conv_tower.1",
)
_BRANCHES = {"rbr_identity": "identity", "rbr_dense": "conv_kxk", "rbr_1x1": "conv_1x1"}
LIGHTNING_NAMES = {
    f"{block}.{theirs}.": f"{block}.{ours}." for block in _BLOCKS for theirs, ours in _BRANCHES.items()
}
"""Prefixes in checkpoints of researchmm/Stark, and ours."""
