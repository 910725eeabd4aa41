"""SimTrack's network: a plain ViT over template, search region and a closer look at the template's middle.

Chen et al., "Backbone is All Your Need: A Simplified Architecture for Visual Object Tracking", 2022. The trunk has
timm's names of modules; those of the published checkpoints are mapped by `CLIP_NAMES`. Source of every step:
`lib/models/stark/clipvit16.py` and `simtrack.py` in LPXTT/SimTrack.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from timm.layers import PatchEmbed, QuickGELU
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from sot_ros.networks.heads import CornerHead

PATCH = 16
"""Side of the square of input pixels that becomes one token."""
TEMPLATE_SIZE = 112
SEARCH_SIZE = 224
FOVEAL_SIZE = 64
"""Side of the template's middle, whose patches lie half a patch off those of the template."""
TEMPLATE_CELLS, SEARCH_CELLS, FOVEAL_CELLS = TEMPLATE_SIZE // PATCH, SEARCH_SIZE // PATCH, FOVEAL_SIZE // PATCH
DIM, DEPTH, HEADS = 768, 12, 12


class Template(NamedTuple):
    """What is kept of the target: the tokens (B, 49, D) of the template, and those (B, 16, D) of its middle."""

    tokens: Tensor
    foveal: Tensor


class JointViT(nn.Module):
    """ViT-B/16 over [template 49, class token 1, search region 196, foveal 16] tokens.

    clip: CLIP's trunk, with QuickGELU, a norm before the blocks and a patch embedding without bias; otherwise MAE's.
    """

    def __init__(self, clip: bool):
        super().__init__()
        self.patch_embed = PatchEmbed(img_size=None, patch_size=PATCH, embed_dim=DIM, bias=not clip)
        # CLIP keeps these two without a batch dimension.
        self.cls_token = nn.Parameter(0.02 * torch.randn(DIM) if clip else 0.02 * torch.randn(1, 1, DIM))
        positions = 0.02 * torch.randn(1 + SEARCH_CELLS**2, DIM)
        self.pos_embed = nn.Parameter(positions if clip else positions[None])
        self.pos_fc = nn.Sequential(nn.Linear(3, DIM // 2), nn.ReLU(), nn.Linear(DIM // 2, DIM), nn.Sigmoid())
        norm = partial(nn.LayerNorm, eps=1e-5 if clip else 1e-6)
        activation = QuickGELU if clip else nn.GELU
        self.norm_pre = norm(DIM) if clip else nn.Identity()
        self.blocks = nn.Sequential(
            *(Block(DIM, HEADS, qkv_bias=True, norm_layer=norm, act_layer=activation) for _ in range(DEPTH))
        )
        self.norm = norm(DIM)

    def embed(self, z: Tensor, box: Tensor) -> Template:
        """Template (B, 3, 112, 112) and the target's box in it, (B, 4) x, y, w, h in shares of its side -> tokens."""
        middle = (TEMPLATE_SIZE - FOVEAL_SIZE) // 2
        tokens = self.patch_embed(z)
        foveal = self.patch_embed(z[..., middle : middle + FOVEAL_SIZE, middle : middle + FOVEAL_SIZE])

        positions = 2 * self.pos_fc(template_places(box)) - 1
        # A foveal patch lies on the corner of four template patches, and takes the mean of two of them.
        grid = positions.unflatten(1, (TEMPLATE_CELLS, TEMPLATE_CELLS))
        first = (TEMPLATE_CELLS - FOVEAL_CELLS) // 2
        upper, lower = (grid[:, i : i + FOVEAL_CELLS, i : i + FOVEAL_CELLS] for i in (first, first + 1))
        foveal_positions = ((upper + lower) / 2).flatten(1, 2)
        return Template(self.norm_pre(tokens + positions), self.norm_pre(foveal + foveal_positions))

    def forward(self, template: Template, x: Tensor) -> Tensor:
        """Search regions (B, 3, 224, 224) -> search features (B, 196, D)."""
        class_token = self.cls_token.view(1, 1, DIM).expand(len(x), -1, -1)
        search = self.norm_pre(torch.cat([class_token, self.patch_embed(x)], dim=1) + self.pos_embed)
        tokens = self.blocks(torch.cat([template.tokens, search, template.foveal], dim=1))
        return self.norm(tokens[:, template.tokens.shape[1] + 1 : -template.foveal.shape[1]])


def template_places(box: Tensor) -> Tensor:
    """Boxes (B, 4) x, y, w, h in shares of the template's side -> what each of its 49 patches has of it, (B, 49, 3):
    the share of the patch that the box covers, scaled to 0.5..1, and the patch's centre x, y, 0..1."""
    edges = torch.arange(TEMPLATE_CELLS + 1, device=box.device) / TEMPLATE_CELLS
    low, high = edges[:-1], edges[1:]
    first, last = box[:, :2].clamp(0, 1), (box[:, :2] + box[:, 2:]).clamp(0, 1)
    covered = (torch.minimum(last[..., None], high) - torch.maximum(first[..., None], low)).clamp(min=0)  # (B, 2, 7)
    overlap = covered[:, 1, :, None] * covered[:, 0, None, :] * TEMPLATE_CELLS**2
    center = (low + high) / 2
    y, x = torch.meshgrid(center, center, indexing="ij")
    return torch.stack([(overlap + 1) / 2, x.expand_as(overlap), y.expand_as(overlap)], dim=-1).flatten(1, 2)


class SimTrack(nn.Module):
    """Finds the target of a template in a search region. Images are RGB, normalised as for ImageNet."""

    def __init__(self, clip: bool):
        super().__init__()
        self.backbone = JointViT(clip)
        self.bottleneck = nn.Linear(DIM, 256)
        self.box_head = CornerHead(256)

    def embed(self, z: Tensor, box: Tensor) -> Template:
        """Template (B, 3, 112, 112) and the target's box in it, (B, 4) x, y, w, h in shares of its side -> tokens,
        before they meet any search region."""
        return self.backbone.embed(z, box)

    def forward(self, template: Template, x: Tensor) -> tuple[Tensor, Tensor]:
        """Search regions (B, 3, 224, 224) -> boxes (B, 4) and how sharply they are found (B,), both of `CornerHead`."""
        features = self.bottleneck(self.backbone(template, x))
        return self.box_head(features.transpose(1, 2).unflatten(2, (SEARCH_CELLS, SEARCH_CELLS)))


def simtrack_b16() -> SimTrack:
    """SimTrack on CLIP's ViT-B/16 (`Sim-B/16`)."""
    return SimTrack(clip=True)


def simtrack_mae_b16() -> SimTrack:
    """SimTrack on the ViT-B/16 of masked autoencoders (`MAE-B/16`)."""
    return SimTrack(clip=False)


CLIP_BLOCK_NAMES = {
    "ln_1.": "norm1.",
    "attn.in_proj_": "attn.qkv.",
    "attn.out_proj.": "attn.proj.",
    "ln_2.": "norm2.",
    "mlp.c_fc.": "mlp.fc1.",
    "mlp.c_proj.": "mlp.fc2.",
}
CLIP_NAMES = {
    "backbone.visual.class_embedding": "backbone.cls_token",
    "backbone.visual.positional_embedding": "backbone.pos_embed",
    "backbone.visual.conv1.": "backbone.patch_embed.proj.",
    "backbone.visual.ln_pre.": "backbone.norm_pre.",
    "backbone.visual.ln_post.": "backbone.norm.",
    **{
        f"backbone.visual.transformer.resblocks.{i}.{theirs}": f"backbone.blocks.{i}.{ours}"
        for i in range(DEPTH)
        for theirs, ours in CLIP_BLOCK_NAMES.items()
    },
}
"""Prefixes in checkpoints of LPXTT/SimTrack, whose trunk has the names of openai/CLIP, and ours."""

MAE_NAMES = {"backbone.visual.": "backbone."}
"""Prefixes in checkpoints that keep an MAE trunk, with its authors' names, where CLIP's is kept, and ours."""

UNUSED = ("backbone.visual.proj",)
"""CLIP's projection to the space that it shares with text."""
