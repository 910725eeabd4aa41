"""SwinTrack's network: a Swin trunk, joint attention over template and search tokens, and a box at every search token.

Lin et al., "SwinTrack: A Simple and Strong Baseline for Transformer Tracking", NeurIPS 2022. Names of modules, and with
them the keys of the state dict, are those of LitingLin/SwinTrack, whose code is the source of every constant. B is the
batch, D the width, h the heads; the template has z x z tokens and the search region x x x, row by row.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.layers import Mlp, PatchEmbed, trunc_normal_
from timm.models.swin_transformer import PatchMerging, SwinTransformerBlock
from timm.models.vision_transformer import Block, init_weights_vit_timm
from torch import Tensor, nn

STRIDE = 16
"""Input pixels for one token of the trunk."""
HEADS = 8
"""Heads of attention in encoder and decoder."""


class Biases(NamedTuple):
    """What is added to the scores of attention for where tokens are: a function of the weights alone."""

    encoder: Tensor
    """(1, h, zz + xx, zz + xx); queries and keys are template, search."""
    decoder: Tensor
    """(1, h, xx, zz + xx); one column more, at the front, where there is a motion token."""


class SwinBlock(SwinTransformerBlock):
    """timm's block for maps of two sizes: the search region's, whose attention mask is kept, and the template's.

    Windows are shifted even where the map is not larger than one window, and the index of relative positions is part
    of the state dict: timm leaves out both, upstream's published weights have both.
    """

    def __init__(self, dim: int, heads: int, window: int, shift: int, map_size: int):
        super().__init__(dim, (map_size, map_size), heads, window_size=window, shift_size=shift, always_partition=True)
        self.dynamic_mask = True
        self.attn.register_buffer("relative_position_index", self.attn.relative_position_index)

    def get_attn_mask(self, x: Tensor | None = None, **where) -> Tensor | None:
        if x is not None and x.shape[1:3] == self.input_resolution:
            return self.attn_mask
        return super().get_attn_mask(x, **where)


class SwinTrunk(nn.Module):
    """The first three stages of a Swin transformer: (B, 3, H, W), normalised RGB -> (B, H W / 256, 4 * dim)."""

    def __init__(self, dim: int, depths: tuple[int, int, int], heads: tuple[int, int, int], window: int, size: int):
        super().__init__()
        stages = []
        for i, (depth, count) in enumerate(zip(depths, heads, strict=True)):
            width, map_size = dim * 2**i, size // (4 * 2**i)
            if i == 0:
                pre_stage = PatchEmbed(None, 4, 3, width, norm_layer=nn.LayerNorm, output_fmt="NHWC")
            else:
                pre_stage = PatchMerging(width // 2)
            shifts = [0 if j % 2 == 0 else window // 2 for j in range(depth)]
            blocks = nn.Sequential(*(SwinBlock(width, count, window, shift, map_size) for shift in shifts))
            stages.append(nn.Sequential(OrderedDict(pre_stage=pre_stage, blocks=blocks)))
        self.stages = nn.Sequential(*stages)
        self.norm2 = nn.LayerNorm(4 * dim)

    def forward(self, image: Tensor) -> Tensor:
        return self.norm2(self.stages(image)).flatten(1, 2)


class UntiedPosition(nn.Module):
    """Learned positions of n x n tokens, which enter attention as queries and keys of their own."""

    def __init__(self, dim: int, n: int, with_query: bool = True):
        super().__init__()
        self.pos = nn.ParameterDict({side: trunc_normal_(torch.empty(n, dim), std=0.02) for side in ("w_pos", "h_pos")})
        self.norm = nn.LayerNorm(dim)
        if with_query:
            self.pos_q_linear = nn.Linear(dim, dim)
        self.pos_k_linear = nn.Linear(dim, dim)

    def query(self) -> Tensor:
        """(h, n * n, D / h), scaled as a query is."""
        query = self._project(self.pos_q_linear)
        return query * query.shape[-1] ** -0.5

    def key(self) -> Tensor:
        """(h, n * n, D / h)."""
        return self._project(self.pos_k_linear)

    def _project(self, linear: nn.Linear) -> Tensor:
        positions = self.pos["w_pos"][None, :] + self.pos["h_pos"][:, None]
        return linear(self.norm(positions.flatten(0, 1))).unflatten(1, (HEADS, -1)).transpose(0, 1)


class RelativePosition(nn.Module):
    """A learned bias for every offset between two tokens and every pair of images that they may be from."""

    def __init__(self, index: Tensor):
        super().__init__()
        self.register_buffer("index", index, persistent=False)
        table = torch.empty(HEADS, int(index.max()) + 1)
        self.relative_position_bias_table = nn.Parameter(trunc_normal_(table, std=0.02))

    def forward(self) -> Tensor:
        """(h, Q, K)."""
        return self.relative_position_bias_table[:, self.index]


@cache
def relative_index(z: int, x: int) -> tuple[Tensor, Tensor]:
    """Rows of the two `RelativePosition` tables, (zz + xx, zz + xx) for the encoder and (xx, zz + xx) for the decoder.

    A row is the rank of (offset down, offset right, query's image, key's image) among all that occur; the decoder
    leaves out the query's image, which always is the search region.
    """
    with torch.device("cpu"):  # the numbers give the tables' sizes, also where the network is built on "meta"
        cells = torch.cat([torch.cartesian_prod(torch.arange(n), torch.arange(n)) for n in (z, x)])
        image = torch.tensor([0] * z * z + [1] * x * x)
    down, right = (cells[:, None] - cells[None] + x - 1).unbind(-1)
    # One number for every combination, in lexicographic order: offsets are below 2 x, images below 2.
    code = ((down * 2 * x + right) * 2 + image[:, None]) * 2 + image[None]
    encoder, decoder = (torch.unique(part, return_inverse=True)[1] for part in (code, code[z * z :]))
    return encoder, decoder


class Encoder(nn.Module):
    """Self-attention over template and search tokens together."""

    def __init__(self, dim: int, depth: int, z: int, x: int):
        super().__init__()
        blocks = (Block(dim, HEADS, qkv_bias=True, norm_layer=nn.LayerNorm) for _ in range(depth))
        self.layers = nn.ModuleList(blocks)
        self.z_untied_pos_enc = UntiedPosition(dim, z)
        self.x_untied_pos_enc = UntiedPosition(dim, x)
        self.rpe_bias_table = RelativePosition(relative_index(z, x)[0])

    def bias(self) -> Tensor:
        """(1, h, zz + xx, zz + xx), the same in all layers."""
        z, x = self.z_untied_pos_enc, self.x_untied_pos_enc
        query, key = torch.cat([z.query(), x.query()], dim=1), torch.cat([z.key(), x.key()], dim=1)
        return (query @ key.transpose(1, 2) + self.rpe_bias_table())[None]

    def forward(self, tokens: Tensor, bias: Tensor) -> Tensor:
        """(B, zz + xx, D) -> the same shape."""
        for layer in self.layers:
            tokens = layer(tokens, attn_mask=bias)
        return tokens


class CrossAttention(nn.Module):
    """Multi-head attention of one sequence (B, Q, D) to another (B, K, D), with a bias (1, h, Q, K) -> (B, Q, D)."""

    def __init__(self, dim: int):
        super().__init__()
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, query: Tensor, memory: Tensor, bias: Tensor) -> Tensor:
        q = self.q(query).unflatten(2, (HEADS, -1)).transpose(1, 2)
        k, v = self.kv(memory).unflatten(2, (2, HEADS, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(attended.transpose(1, 2).flatten(2))


class CrossBlock(nn.Module):
    """A pre-norm transformer block with `CrossAttention`."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm1_q = nn.LayerNorm(dim)
        self.norm1_kv = nn.LayerNorm(dim)
        self.attn = CrossAttention(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, query: Tensor, memory: Tensor, bias: Tensor) -> Tensor:
        query = query + self.attn(self.norm1_q(query), self.norm1_kv(memory), bias)
        return query + self.mlp(self.norm2(query))


class Decoder(nn.Module):
    """Attention of the search tokens to the motion token, where there is one, the template and the search region."""

    def __init__(self, dim: int, z: int, x: int):
        super().__init__()
        self.layers = nn.ModuleList([CrossBlock(dim)])
        self.z_untied_pos_enc = UntiedPosition(dim, z, with_query=False)
        self.x_untied_pos_enc = UntiedPosition(dim, x)
        self.rpe_bias_table = RelativePosition(relative_index(z, x)[1])

    def bias(self) -> Tensor:
        """(1, h, xx, zz + xx)."""
        z, x = self.z_untied_pos_enc, self.x_untied_pos_enc
        key = torch.cat([z.key(), x.key()], dim=1)
        return (x.query() @ key.transpose(1, 2) + self.rpe_bias_table())[None]

    def forward(self, search: Tensor, before: Tensor, bias: Tensor) -> Tensor:
        """Search tokens (B, xx, D) and the tokens `before` them (B, K - xx, D) -> (B, xx, D)."""
        for layer in self.layers:
            search = layer(search, torch.cat([before, search], dim=1), bias)
        return search


class MotionToken(nn.Module):
    """The target's last boxes as one token: (B, boxes, 4) places, 0 to granularity -> (B, 1, D).

    A place is that of a left, top, right or lower edge in one of `granularity` equal steps across the search region;
    `granularity` itself stands for a box that is missing. Source: the paper; its code for this is unpublished.
    """

    def __init__(self, dim: int, boxes: int, granularity: int):
        super().__init__()
        if dim % (4 * boxes):
            fitting = [n for n in range(1, dim // 4 + 1) if dim % (4 * n) == 0]
            raise ValueError(
                f"motion_boxes {boxes} refused: 4 embeddings for each box must fill {dim} channels, "
                f"as {', '.join(map(str, fitting))} do"
            )
        self.absent = granularity
        tables = torch.empty(4 * boxes, granularity + 1, dim // (4 * boxes))
        self.tables = nn.Parameter(trunc_normal_(tables, std=0.02))

    def forward(self, places: Tensor) -> Tensor:
        places = places.flatten(1)
        return self.tables[torch.arange(places.shape[1], device=places.device), places].flatten(1)[:, None]


class Branch(nn.Module):
    """Three linear layers with GELU between them."""

    def __init__(self, dim: int, out: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(dim, width) for width in (dim, dim, out))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.gelu(layer(x))
        return self.layers[-1](x)


class Head(nn.Module):
    """A score and a box at every search token."""

    def __init__(self, dim: int):
        super().__init__()
        self.cls_mlp = Branch(dim, 1)
        self.reg_mlp = Branch(dim, 4)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, xx, D) -> scores (B, xx), which estimate the box's IoU with the target, and boxes (B, xx, 4): centre x,
        centre y, width, height. All in 0..1; boxes are in shares of the search region's side."""
        return self.cls_mlp(tokens)[..., 0].sigmoid(), self.reg_mlp(tokens).sigmoid()


class SwinTrack(nn.Module):
    """Finds the target of a template in a search region."""

    def __init__(
        self, trunk: SwinTrunk, dim: int, encoder_layers: int, search_size: int, motion: MotionToken | None = None
    ):
        super().__init__()
        self.template_size, self.search_size = search_size // 2, search_size
        z, x = self.template_size // STRIDE, search_size // STRIDE
        self.backbone = trunk
        self.encoder = Encoder(dim, encoder_layers, z, x)
        self.decoder = Decoder(dim, z, x)
        self.out_norm = nn.LayerNorm(dim)
        self.head = Head(dim)
        self.motion = motion
        self.apply(init_weights_vit_timm)

    def embed(self, z: Tensor) -> Tensor:
        """Template (B, 3, S / 2, S / 2), normalised RGB, S the search region's side -> its tokens (B, zz, D)."""
        return self.backbone(z)

    def biases(self) -> Biases:
        """To be computed once for weights that do not change."""
        decoder = self.decoder.bias()
        return Biases(self.encoder.bias(), decoder if self.motion is None else F.pad(decoder, (1, 0)))

    def forward(
        self, template: Tensor, x: Tensor, biases: Biases, places: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Template tokens (B, zz, D) and search region (B, 3, S, S), normalised RGB -> scores (B, xx) and boxes
        (B, xx, 4) of `Head`.

        `places` (B, boxes, 4), for models with a `MotionToken` only, are those it takes.
        """
        tokens = self.encoder(torch.cat([template, self.backbone(x)], dim=1), biases.encoder)
        before, search = tokens.tensor_split([template.shape[1]], dim=1)
        if self.motion is not None:
            before = torch.cat([self.motion(places), before], dim=1)
        return self.head(self.out_norm(self.decoder(search, before, biases.decoder)))


def swintrack_tiny(motion_boxes: int = 0, motion_granularity: int = 0) -> SwinTrack:
    """config/SwinTrack/Tiny: Swin-T, 112 and 224 pixels. With `motion_boxes`, it has a motion token."""
    trunk = SwinTrunk(96, depths=(2, 2, 6), heads=(3, 6, 12), window=7, size=224)
    motion = MotionToken(384, motion_boxes, motion_granularity) if motion_boxes else None
    return SwinTrack(trunk, 384, encoder_layers=4, search_size=224, motion=motion)


def swintrack_base() -> SwinTrack:
    """config/SwinTrack/Base: Swin-B, 112 and 224 pixels."""
    trunk = SwinTrunk(128, depths=(2, 2, 18), heads=(4, 8, 16), window=7, size=224)
    return SwinTrack(trunk, 512, encoder_layers=8, search_size=224)


def swintrack_base_384(motion_boxes: int = 0, motion_granularity: int = 0) -> SwinTrack:
    """config/SwinTrack/Base-384: Swin-B, 192 and 384 pixels. With `motion_boxes`, it has a motion token."""
    trunk = SwinTrunk(128, depths=(2, 2, 18), heads=(4, 8, 16), window=12, size=384)
    motion = MotionToken(512, motion_boxes, motion_granularity) if motion_boxes else None
    return SwinTrack(trunk, 512, encoder_layers=8, search_size=384, motion=motion)
