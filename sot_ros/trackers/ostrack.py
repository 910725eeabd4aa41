"""OSTrack's pipeline: cut, run template and search region through one network, read the box at the best cell.

Source of every step and constant: `lib/test/tracker/ostrack.py` and `lib/utils/ce_utils.py` in botaoye/OSTrack, and its
experiments/ostrack/*.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_convert

from sot_ros.crops import stark_crop, stark_uncrop
from sot_ros.geometry import Box, clip
from sot_ros.networks.heads import decode_center, hann_window
from sot_ros.networks.ostrack import PATCH, Elimination
from sot_ros.trackers.base import Estimate, Search, Tracker
from sot_ros.trackers.settings import setting

TEMPLATE_FACTOR = 2.0


@dataclass(frozen=True)
class OSTrackSettings:
    search_factor: float = setting(4.0, "side of the search region over the square root of the target's area", 2.0, 8.0)
    window_influence: float = setting(
        1.0, "weight of the cosine window on the scores: 0 is none", 0.0, 1.0, computes=True
    )
    elimination: bool = setting(
        False, "drop search tokens that the template hardly attends to, which is faster", computes=True
    )
    keep_ratio: float = setting(
        0.7, "share of the search tokens that survives each of three eliminations", 0.01, 1.0, computes=True
    )
    template_range: str = setting(
        "CTR_POINT",
        "template tokens whose attention decides about elimination",
        choices=("ALL", "CTR_POINT", "CTR_REC", "GT_BOX"),
    )
    token_order: str = setting(
        "direct",
        "how template and search tokens are joined; of effect with elimination only",
        choices=("direct", "template_central", "partition"),
        computes=True,
    )
    head: str = setting(
        "CENTER", "the head that the weights were trained with", choices=("CENTER", "CORNER"), builds=True
    )


class OSTrackTracker(Tracker):
    """Confidence: the unwindowed score at the chosen cell; with the corner head, how sharply the less certain corner is
    found, the largest share of its heat map that 2 x 2 cells hold. Upstream has none.

    Of the settings, `template_range` acts from the next target on.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.cells = self.network.search_size // PATCH
        self.window = hann_window(self.cells).to(self.device)
        self.patch: np.ndarray | None = None
        """The last search region, (search_size, search_size, 3) uint8."""
        self._kept: list[Tensor] = []

    @property
    def kept(self) -> list[np.ndarray]:
        """Which cells of the last `patch` each elimination kept: (cells, cells) bool, in the order of the layers."""
        masks = torch.zeros(len(self._kept), self.cells**2, dtype=torch.bool)
        for mask, indices in zip(masks, self._kept, strict=True):
            mask[indices] = True
        return list(masks.view(-1, self.cells, self.cells).numpy())

    def set_template(self, image: np.ndarray, box: Box) -> None:
        size = self.network.template_size
        patch, scale = stark_crop(image, box, TEMPLATE_FACTOR, size)
        (template,) = self.embed_cut(patch[None])
        rows = template_rows(self.settings.template_range, size, box.w * scale, box.h * scale)
        shares = torch.zeros(1, template.shape[1])
        shares[0, rows] = 1 / len(rows)
        self.template, self.shares = template, shares.to(self.device)

    def locate(self, image: np.ndarray) -> Search:
        size = self.network.search_size
        self.patch, scale = stark_crop(image, self.box, self.settings.search_factor, size)
        box, confidence, *self._kept = yield self.template, self.shares, self.patch[None]
        found = stark_uncrop(*box.tolist(), self.box, size, scale)
        self.box = clip(found, image.shape[1], image.shape[0])
        return Estimate(self.box, confidence.item())

    def embed(self, patches: Tensor) -> tuple[Tensor]:
        return (self.network.embed(self.to_normalized(patches)),)

    def compute(self, template: Tensor, shares: Tensor, patches: Tensor) -> tuple[Tensor, ...]:
        s = self.settings
        elimination = Elimination(shares, s.keep_ratio) if s.elimination else None
        found, kept = self.network(template, self.to_normalized(patches), elimination, s.token_order)
        if s.head == "CENTER":
            score, size, offset = (m.float() for m in found)
            windowed = score * (1 - s.window_influence + s.window_influence * self.window)
            boxes, index = decode_center(windowed, size, offset)
            confidence = score.flatten(1).gather(1, index[:, None])[:, 0]
        else:
            corners, confidence = found
            boxes = box_convert(corners.float(), "xyxy", "cxcywh")
        return boxes, confidence, *kept


def template_rows(template_range: str, size: int, w: float, h: float) -> list[int]:
    """Indices of the template tokens, row by row, whose attention decides which search tokens are eliminated.

    The template is `size` pixels wide and high, the target in its middle w x h. ALL: every token; CTR_POINT: the one
    left above the centre; CTR_REC: the four around it; GT_BOX: those whose centre lies in the target's box, and
    CTR_POINT if that is none. Source: `generate_mask_cond` upstream.
    """
    n = size // PATCH
    if template_range == "ALL":
        rows = columns = range(n)
    elif template_range == "CTR_REC":
        rows = columns = range((n - 1) // 2, n // 2 + 1)
    elif template_range == "GT_BOX":
        rows, columns = cells_within(size, h), cells_within(size, w)
    if template_range == "CTR_POINT" or not rows or not columns:
        rows = columns = range((n - 1) // 2, (n - 1) // 2 + 1)
    return [row * n + column for row in rows for column in columns]


def cells_within(size: int, extent: float) -> list[int]:
    """Cells along a side of `size` pixels, one of whose two middle pixels a centred box of `extent` pixels covers.

    In whole pixels, with upstream's half pixel to the top left (`transform_image_to_crop`) and without the box's last
    pixel (`generate_bbox_mask`).
    """
    first = (size - 1) / 2 - extent / 2
    covered = range(max(0, int(first)), int(first + extent - 1))
    middle = range(PATCH // 2, size, PATCH)
    return [i for i, pixel in enumerate(middle) if pixel - 1 in covered or pixel in covered]
