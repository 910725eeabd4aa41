"""SimTrack's pipeline: cut, run template and search region through one network, take the box that it returns.

Source of every step and constant: `lib/test/tracker/simtrack.py` and `experiments/simtrack/baseline.yaml` in
LPXTT/SimTrack.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torchvision.ops import box_convert

from sot_ros.crops import stark_crop, stark_uncrop
from sot_ros.geometry import Box, clip
from sot_ros.networks.simtrack import SEARCH_SIZE, TEMPLATE_SIZE, Template
from sot_ros.trackers.base import Estimate, Search, Tracker
from sot_ros.trackers.settings import setting

TEMPLATE_FACTOR = 2.0


@dataclass(frozen=True)
class SimTrackSettings:
    search_factor: float = setting(4.0, "side of the search region over the square root of the target's area", 2.0, 8.0)


class SimTrackTracker(Tracker):
    """Confidence: how sharply the less certain corner is found, the largest share of its heat map in 2 x 2 cells.
    Upstream has none."""

    def set_template(self, image: np.ndarray, box: Box) -> None:
        patch, scale = stark_crop(image, box, TEMPLATE_FACTOR, TEMPLATE_SIZE)
        extent = np.float32([box.w, box.h]) * np.float32(scale)
        # The corner is truncated to whole pixels, as upstream has it.
        corner = np.trunc((TEMPLATE_SIZE - extent) / 2)
        self.template = self.embed_cut(patch[None], np.concatenate([corner, extent])[None] / TEMPLATE_SIZE)

    def locate(self, image: np.ndarray) -> Search:
        patch, scale = stark_crop(image, self.box, self.settings.search_factor, SEARCH_SIZE)
        box, sharpness = yield *self.template, patch[None]
        found = stark_uncrop(*box.tolist(), self.box, SEARCH_SIZE, scale)
        self.box = clip(found, image.shape[1], image.shape[0])
        return Estimate(self.box, sharpness.item())

    def embed(self, patches: Tensor, places: Tensor) -> Template:
        return self.network.embed(self.to_normalized(patches), places)

    def compute(self, tokens: Tensor, foveal: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        corners, sharpness = self.network(Template(tokens, foveal), self.to_normalized(patches))
        return box_convert(corners.float(), "xyxy", "cxcywh"), sharpness
