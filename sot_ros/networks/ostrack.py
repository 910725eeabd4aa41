"""OSTrack's network: one plain ViT over template and search tokens together, which drops what is background on the way.

Ye et al., "Joint Feature Learning and Relation Modeling for Tracking: A One-Stream Framework", 2022. Names of modules,
and with them the keys of the state dict, are those of botaoye/OSTrack.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed
from timm.models.vision_transformer import Attention, Block
from torch import Tensor, nn

from sot_ros.networks.heads import CenterHead, CornerHead
from sot_ros.networks.mobilenet import MobilePatchEmbed

PATCH = 16
"""Side of the square of input pixels that becomes one token."""

ELIMINATION_BLOCKS = (3, 6, 9)
"""Blocks, counted from 0, that eliminate candidates (`CE_LOC` upstream)."""


class Elimination(NamedTuple):
    """How candidates, the search tokens, are eliminated: those that the template hardly attends to are background."""

    shares: Tensor
    """What share (B, Nz) the attention of each template token has in that; they sum to 1."""
    keep_ratio: float
    """Share of the candidates that survives each elimination, above 0 and up to 1."""


class OneStreamViT(nn.Module):
    """ViT-B/16 without class token. Template of z x z tokens (Nz = z^2), search region of n x n (Nx = n^2), D = 768."""

    def __init__(
        self,
        template_size: int,
        search_size: int,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        patch_embed: nn.Module | None = None,
    ):
        super().__init__()
        self.patch_embed = patch_embed or PatchEmbed(img_size=None, patch_size=PATCH, embed_dim=dim)
        self.pos_embed_z = nn.Parameter(0.02 * torch.randn(1, (template_size // PATCH) ** 2, dim))
        self.pos_embed_x = nn.Parameter(0.02 * torch.randn(1, (search_size // PATCH) ** 2, dim))
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.ModuleList(Block(dim, heads, qkv_bias=True, norm_layer=norm) for _ in range(depth))
        self.norm = norm(dim)

    def embed(self, z: Tensor) -> Tensor:
        """Template (B, 3, H, W) -> tokens (B, Nz, D)."""
        return self.patch_embed(z) + self.pos_embed_z

    def forward(
        self, template: Tensor, x: Tensor, elimination: Elimination | None, token_order: str
    ) -> tuple[Tensor, list[Tensor]]:
        """Template tokens (B, Nz, D) and search regions (B, 3, H, W) -> search features (B, Nx, D), where eliminated
        tokens are zeros, and which search tokens were kept by each elimination, as indices (B, kept)."""
        tokens = join(template, self.patch_embed(x) + self.pos_embed_x, token_order)
        batch, nz, nx = len(tokens), template.shape[1], self.pos_embed_x.shape[1]
        candidates = torch.arange(nx, device=x.device).expand(batch, nx)
        kept = []
        for i, block in enumerate(self.blocks):
            if elimination is not None and i in ELIMINATION_BLOCKS:
                tokens, candidates = eliminate(block, tokens, candidates, elimination)
                kept.append(candidates)
            else:
                tokens = block(tokens)
        tokens = self.norm(tokens)

        if elimination is None:
            return search_part(tokens, nz, token_order), kept
        # Elimination takes the first Nz tokens for the template whatever the order, as upstream's
        # `VisionTransformerCE` does; weights trained so expect it.
        search = tokens.new_zeros(batch, nx, tokens.shape[2])
        return search.scatter(1, candidates[..., None].expand(-1, -1, tokens.shape[2]), tokens[:, nz:]), kept


def eliminate(
    block: Block, tokens: Tensor, candidates: Tensor, elimination: Elimination
) -> tuple[Tensor, Tensor]:
    """Run a block in which the least attended candidates leave between attention and MLP.

    tokens (B, N, D) end with the candidates, whose indices in the search region are `candidates` (B, C). Returns the
    tokens that stay and the indices of the candidates among them, most attended first: (B, N - C + K, D) and (B, K).
    Source: `candidate_elimination` upstream.
    """
    attended, weights = attend(block.attn, block.norm1(tokens), elimination.shares)
    tokens = tokens + block.drop_path1(attended)
    count = candidates.shape[1]
    keep = math.ceil(elimination.keep_ratio * count)
    if keep < count:
        template, search = tokens[:, :-count], tokens[:, -count:]
        # sort, as upstream: topk may order equal weights differently.
        best = weights[:, -count:].sort(dim=1, descending=True).indices[:, :keep]
        candidates = candidates.gather(1, best)
        tokens = torch.cat([template, search.gather(1, best[..., None].expand(-1, -1, search.shape[2]))], dim=1)
    return tokens + block.drop_path2(block.mlp(block.norm2(tokens))), candidates


def attend(attention: Attention, x: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """timm's attention on x (B, N, D), and the weight (B, N) that the first tokens give each token, averaged over heads
    and by their `shares` (B, Nz). Only these rows are computed beside fused attention, which tells no weights."""
    q, k, v = attention.qkv(x).unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    y = F.scaled_dot_product_attention(q, k, v)
    weights = (q[:, :, : shares.shape[1]] @ k.transpose(2, 3) * attention.scale).softmax(dim=-1).mean(dim=1)
    return attention.proj(y.transpose(1, 2).flatten(2)), (shares[:, None] @ weights)[:, 0]


def join(template: Tensor, search: Tensor, token_order: str) -> Tensor:
    """Template (B, Nz, D) and search tokens (B, Nx, D) as one sequence (B, Nz + Nx, D).

    direct: template, then search. template_central: the template between the halves of the search region.
    partition: as direct, with the upper and lower half of the template side by side, row by row.
    Source: `combine_tokens` upstream.
    """
    if token_order == "template_central":
        first, second = search.tensor_split(2, dim=1)
        return torch.cat([first, template, second], dim=1)
    if token_order == "partition":
        side = math.isqrt(template.shape[1])
        template = template.unflatten(1, (2, side // 2, side)).transpose(1, 2).flatten(1, 3)
    return torch.cat([template, search], dim=1)


def search_part(tokens: Tensor, nz: int, token_order: str) -> Tensor:
    """The search tokens (B, Nx, D) of a sequence that `join` made with `nz` template tokens."""
    if token_order == "template_central":
        half = (tokens.shape[1] - nz) // 2
        return torch.cat([tokens[:, :half], tokens[:, half + nz :]], dim=1)
    return tokens[:, nz:]


class OSTrack(nn.Module):
    """Finds the target of a template in a search region. Images are RGB, normalised as for ImageNet."""

    def __init__(
        self,
        template_size: int,
        search_size: int,
        head: str = "CENTER",
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        head_channels: int = 256,
        patch_embed: nn.Module | None = None,
    ):
        super().__init__()
        self.template_size, self.search_size = template_size, search_size
        self.backbone = OneStreamViT(template_size, search_size, dim, depth, heads, patch_embed)
        self.box_head = {"CENTER": CenterHead, "CORNER": CornerHead}[head](dim, head_channels)

    def embed(self, z: Tensor) -> Tensor:
        """Template (B, 3, template_size, template_size) -> tokens (B, Nz, 768), before they meet any search region."""
        return self.backbone.embed(z)

    def forward(
        self, template: Tensor, x: Tensor, elimination: Elimination | None = None, token_order: str = "direct"
    ) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        """Template tokens and search regions (B, 3, search_size, search_size) -> what `CenterHead` or `CornerHead`
        returns, and the indices (B, kept) of the search tokens that each elimination kept."""
        features, kept = self.backbone(template, x, elimination, token_order)
        n = self.search_size // PATCH
        return self.box_head(features.transpose(1, 2).unflatten(2, (n, n))), kept


def ostrack_256(head: str = "CENTER") -> OSTrack:
    """OSTrack-256, with and without candidate elimination: the weights have the same names and shapes."""
    return OSTrack(template_size=128, search_size=256, head=head)


def ostrack_384(head: str = "CENTER") -> OSTrack:
    """OSTrack-384, with and without candidate elimination."""
    return OSTrack(template_size=192, search_size=384, head=head)


def ostrack_tiny(head: str = "CENTER") -> OSTrack:
    """Four layers of 192 channels on a MobileNetV2's features instead of pixels, which little data and a CPU can train.
    Upstream has none."""
    return OSTrack(128, 256, head, dim=192, depth=4, heads=3, head_channels=64, patch_embed=MobilePatchEmbed(192))


UNUSED = ("backbone.cls_token", "backbone.pos_embed")
"""Left in the published files from the ViT's pre-training; pos_embed_z and pos_embed_x were made of the second."""
