"""STARK's network: ResNet features of templates and search region, joined by an encoder-decoder transformer.

Yan et al., "Learning Spatio-Temporal Transformer for Visual Tracking", 2021. Source of every constant: lib/models/stark
and experiments/stark_s, stark_st2 in researchmm/Stark. STARK-S sees one template, STARK-ST two and a confidence head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import timm
import torch
import torch.nn.functional as F
from timm.layers import freeze_batch_norm_2d
from torch import Tensor, nn
from torchvision.ops import MLP, box_convert

from sot_ros.networks.heads import CornerHead

STRIDE = 16
TEMPLATE_SIZE = 128
SEARCH_SIZE = 320
DROPOUT = 0.1


class Tokens(NamedTuple):
    """What the transformer gets of a patch: one token per cell, row by row."""

    features: Tensor
    """(B, N, C)"""
    positions: Tensor
    """(B, N, C); added to the features where they serve as queries or keys."""
    padding: Tensor
    """(B, N) bool, true where the cell lies outside the image."""


class EncoderLayer(nn.Module):
    """Attention and two linear layers, each with a residual and normalised afterwards."""

    def __init__(self, dim: int, heads: int, hidden: int):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, heads, DROPOUT, batch_first=True)
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor, query: Tensor, key: Tensor, value: Tensor, padding: Tensor) -> Tensor:
        """The residual x and query are (B, Q, C), key and value (B, K, C), padding (B, K) bool -> (B, Q, C)."""
        x = self.norm1(x + self.dropout(attend(self.self_attn, query, key, value, padding)))
        hidden = self.dropout(F.relu(self.linear1(x)))
        return self.norm2(x + self.dropout(self.linear2(hidden)))


class DecoderLayer(nn.Module):
    """Self-attention of the queries, attention to the memory, and two linear layers."""

    def __init__(self, dim: int, heads: int, hidden: int):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, heads, DROPOUT, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(dim, heads, DROPOUT, batch_first=True)
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor, query: Tensor, memory: Tensor, key: Tensor, padding: Tensor) -> Tensor:
        """x and the learned query are (B, Q, C), memory and key (B, N, C), padding (B, N) bool -> (B, Q, C)."""
        x = self.norm1(x + self.dropout(attend(self.self_attn, x + query, x + query, x)))
        x = self.norm2(x + self.dropout(attend(self.multihead_attn, x + query, key, memory, padding)))
        hidden = self.dropout(F.relu(self.linear1(x)))
        return self.norm3(x + self.dropout(self.linear2(hidden)))


class Encoder(nn.Module):
    """Every token attends to every token of templates and search region."""

    def __init__(self, dim: int, heads: int, hidden: int, depth: int):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(dim, heads, hidden) for _ in range(depth))

    def forward(self, tokens: Tokens) -> Tensor:
        """Tokens -> memory (B, N, C)."""
        x, positions, padding = tokens
        for layer in self.layers:
            x = layer(x, x + positions, x + positions, x, padding)
        return x


class Decoder(nn.Module):
    """Learned queries gather the target from the memory."""

    def __init__(self, dim: int, heads: int, hidden: int, depth: int):
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(dim, heads, hidden) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, query: Tensor, memory: Tensor, positions: Tensor, padding: Tensor) -> Tensor:
        """Queries (B, Q, C), memory and positions (B, N, C), padding (B, N) bool -> targets (B, Q, C)."""
        x = torch.zeros_like(query)
        for layer in self.layers:
            x = layer(x, query, memory, memory + positions, padding)
        return self.norm(x)


class Stark(nn.Module):
    """Finds the target of one or several templates in a search region.

    backbone  a ResNet of timm by name
    scored    whether there is a confidence head, as in STARK-ST
    head      CORNER: two heat maps; MLP: the box straight from the decoder's output
    """

    def __init__(self, backbone: str, scored: bool, head: str, dim: int = 256, heads: int = 8, hidden: int = 2048):
        super().__init__()
        resnet = timm.create_model(backbone, features_only=True, out_indices=(3,))
        self.backbone = freeze_batch_norm_2d(resnet)
        self.bottleneck = nn.Conv2d(resnet.feature_info.channels()[0], dim, 1)
        self.transformer = nn.ModuleDict(
            {"encoder": Encoder(dim, heads, hidden, depth=6), "decoder": Decoder(dim, heads, hidden, depth=6)}
        )
        self.query_embed = nn.Embedding(1, dim)
        self.box_head = CornerHead(dim) if head == "CORNER" else MLP(dim, [dim, dim, 4])
        self.cls_head = MLP(dim, [dim, dim, 1]) if scored else None
        for parameter in self.transformer.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def embed(self, patch: Tensor, padding: Tensor) -> Tokens:
        """Patches (B, 3, H, W), normalised as for ImageNet, and their padding (B, H, W) bool -> H W / 256 tokens."""
        features = self.bottleneck(self.backbone(patch)[0])
        padding = padding[:, ::STRIDE, ::STRIDE]
        positions = sine_positions(padding, features.shape[1])
        return Tokens(features.flatten(2).transpose(1, 2), positions, padding.flatten(1))

    def forward(self, templates: Sequence[Tokens], patch: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """Templates, one in STARK-S, two in STARK-ST, and search regions (B, 3, 320, 320) with their padding.

        Returns boxes (B, 4), centre x, centre y, width, height as shares of the search region's side, and a score
        (B,) in 0..1: of the confidence head where there is one, else how sharply the corner head finds the corners;
        the MLP head without a confidence head has no measure, and 1 stands for it.
        """
        tokens = join(*templates, self.embed(patch, padding))
        encoder, decoder = self.transformer["encoder"], self.transformer["decoder"]
        memory = encoder(tokens)
        query = self.query_embed.weight.expand(len(patch), -1, -1)
        target = decoder(query, memory, tokens.positions, tokens.padding)
        if isinstance(self.box_head, CornerHead):
            n = patch.shape[-1] // STRIDE
            search = memory[:, -n * n :]
            similarity = search @ target.transpose(1, 2)
            corners, score = self.box_head((search * similarity).transpose(1, 2).unflatten(2, (n, n)))
            boxes = box_convert(corners, "xyxy", "cxcywh")
        else:
            boxes = self.box_head(target[:, 0]).sigmoid()
            score = boxes.new_ones(len(boxes))
        if self.cls_head is not None:
            score = self.cls_head(target[:, 0])[:, 0].sigmoid()
        return boxes, score


def join(*parts: Tokens) -> Tokens:
    """The tokens of several patches, one after the other."""
    return Tokens(*(torch.cat(tensors, dim=1) for tensors in zip(*parts, strict=True)))


def attend(
    attention: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None = None
) -> Tensor:
    """Query (B, Q, C), key and value (B, K, C), padded keys (B, K) bool -> (B, Q, C)."""
    return attention(query, key, value, key_padding_mask=padding, need_weights=False)[0]


def sine_positions(padding: Tensor, dim: int, temperature: float = 10000.0) -> Tensor:
    """Padded cells (B, h, w) bool -> positions (B, h w, dim): sines and cosines, first half of y, second half of x.

    Coordinates count the cells inside the image, from 0 to 2 pi over all of them, as DETR's do.
    """
    half = dim // 2
    inside = ~padding
    y, x = inside.cumsum(1, dtype=torch.float32), inside.cumsum(2, dtype=torch.float32)
    y, x = (c / (last + 1e-6) * (2 * math.pi) for c, last in ((y, y[:, -1:]), (x, x[..., -1:])))
    wavelength = temperature ** (torch.arange(0, half, 2, device=padding.device) / half)
    angles = torch.stack([y, x], dim=-1)[..., None] / wavelength
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(3).flatten(1, 2)


def stark_s50(head: str = "CORNER") -> Stark:
    """STARK-S with ResNet-50: one template, spatial only."""
    return Stark("resnet50", scored=False, head=head)


def stark_st50(head: str = "CORNER") -> Stark:
    """STARK-ST with ResNet-50."""
    return Stark("resnet50", scored=True, head=head)


def stark_st101(head: str = "CORNER") -> Stark:
    """STARK-ST with ResNet-101."""
    return Stark("resnet101", scored=True, head=head)


# torchvision's MLP counts activations and dropout as layers, upstream's does not.
STARK_NAMES = {"backbone.0.body.": "backbone."} | {
    f"{head}.layers.{i}.": f"{head}.{3 * i}." for head in ("box_head", "cls_head") for i in range(3)
}
"""Prefixes in checkpoints of researchmm/Stark, and ours."""
