"""Losses: OSTrack's over the maps of a centre head (focal for scores, L1 and GIoU for boxes), and SiamFC's."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_convert, box_iou, generalized_box_iou_loss

from sot_ros.networks.heads import cell_grid, decode_center

L1_WEIGHT, GIOU_WEIGHT, SCORE_WEIGHT = 5.0, 2.0, 1.0
"""Weights of upstream's experiments/ostrack."""
RESPONSE_STRIDE, RADIUS = 8, 16
"""Pixels from one place of SiamFC's response to the next, and around the centre that are still the target (`r_pos`)."""


class Losses(NamedTuple):
    """total is to be minimised; iou is the mean over targets that are present, hit the share with IoU above 0.5."""

    total: Tensor
    score: Tensor
    box: Tensor
    iou: Tensor
    hit: Tensor


def tracking_loss(maps: tuple[Tensor, Tensor, Tensor], box: Tensor, present: Tensor) -> Losses:
    """Compare a centre head's maps with boxes (B, 4), cx, cy, w, h as shares of the side, and presence (B,), 0 or 1.

    Where the target is absent every cell is background, and the box counts nowhere.
    """
    score, size, offset = (m.float() for m in maps)
    n = score.shape[-1]
    target = heatmap(box, n) * present[:, None, None]
    score_loss = focal_loss(score[:, 0], target) / present.sum().clamp(min=1)

    # Each cell's box counts as much as the cell is the target's, because inference may choose a neighbour.
    found = torch.cat([(cell_grid(n, box.device) + offset) / n, size], dim=1).permute(0, 2, 3, 1)
    wanted = box[:, None, None].expand_as(found)
    giou = generalized_box_iou_loss(box_convert(found, "cxcywh", "xyxy"), box_convert(wanted, "cxcywh", "xyxy"))
    l1 = F.l1_loss(found, wanted, reduction="none").mean(-1)
    box_loss = ((GIOU_WEIGHT * giou + L1_WEIGHT * l1) * target).sum() / target.sum().clamp(min=1)

    with torch.no_grad():
        best, _ = decode_center(score, size, offset)
        iou, hit = _overlap(best, box, present)
    return Losses(SCORE_WEIGHT * score_loss + box_loss, score_loss, box_loss, iou, hit)


def response_loss(responses: Tensor, box: Tensor, present: Tensor, side: int) -> Losses:
    """SiamFC's loss (Bertinetto et al., 2016): each place of a response map is the target's or is not; and a second one
    (InfoNCE), by which a template has to find its target's places among those of all search regions of the batch.

    responses (B, B, n, n): of search region i to template j. Boxes (B, 4) and presence (B,) are as in `tracking_loss`,
    `side` the search region's in pixels. In the first loss both kinds of places weigh as much. A response tells no
    size, so IoU is that of the true size at the response's peak.
    """
    own = responses.float().diagonal().permute(2, 0, 1)
    n = own.shape[-1]
    places = (torch.arange(n, device=box.device) - (n - 1) / 2) * RESPONSE_STRIDE / side + 0.5
    far = (places - box[:, 0, None])[:, None] ** 2 + (places - box[:, 1, None])[:, :, None] ** 2
    target = (far <= (RADIUS / side) ** 2) * present[:, None, None]
    each = F.binary_cross_entropy_with_logits(own, target, reduction="none")
    weight = sum(kind / (2 * kind.sum((1, 2), keepdim=True).clamp(min=1)) for kind in (target, 1 - target))
    balanced = (each * weight).sum((1, 2)).mean()
    everywhere = responses.float().transpose(0, 1).flatten(1).logsumexp(1)
    at_target = own.masked_fill(target == 0, -1e4).flatten(1).logsumexp(1)
    reachable = target.amax((1, 2))  # 0 for targets that are absent, or so far out that no place is theirs
    among = ((everywhere - at_target) * reachable).sum() / reachable.sum().clamp(min=1)
    with torch.no_grad():
        peak = own.flatten(1).argmax(1)
        best = torch.cat([places[peak % n, None], places[peak // n, None], box[:, 2:]], dim=1)
        iou, hit = _overlap(best, box, present)
    return Losses(balanced + among, balanced + among, torch.zeros_like(among), iou, hit)


def _overlap(found: Tensor, box: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Mean IoU of boxes (B, 4), cx, cy, w, h, with those of targets that are present, and the share above 0.5."""
    pairs = box_iou(box_convert(found, "cxcywh", "xyxy"), box_convert(box, "cxcywh", "xyxy")).diagonal()
    count = present.sum().clamp(min=1)
    return (pairs * present).sum() / count, ((pairs > 0.5) * present).sum() / count


def heatmap(box: Tensor, n: int) -> Tensor:
    """Gaussians (B, n, n) with peak 1 in the cell of each box's centre, wider for larger boxes (B, 4)."""
    cell = (box[:, :2] * n).floor().clamp(0, n - 1)
    # Near the deviation that CenterNet's rule gives for a minimal IoU of 0.7, but without its steps.
    deviation = 0.25 + 0.1 * n * box[:, 2:]
    steps = torch.arange(n, device=box.device)
    x, y = (torch.exp(-(((steps - cell[:, i, None]) / deviation[:, i, None]) ** 2) / 2) for i in (0, 1))
    return y[:, :, None] * x[:, None, :]


def focal_loss(score: Tensor, target: Tensor) -> Tensor:
    """CornerNet's focal loss (Law and Deng, 2018; alpha 2, beta 4) between maps in 0..1, summed."""
    peak = target.eq(1)
    positive = (1 - score) ** 2 * score.log()
    negative = (1 - target) ** 4 * score**2 * (1 - score).log()
    return -torch.where(peak, positive, negative).sum()
