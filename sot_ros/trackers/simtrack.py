"""SimTrack's pipeline: cut, run template and search region through one network, take the box that it returns.

Source of every step and constant: `lib/test/tracker/simtrack.py` and `experiments/simtrack/baseline.yaml` in
LPXTT/SimTrack.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sot_ros.crops import stark_crop, stark_uncrop
from sot_ros.geometry import Box, clip
from sot_ros.networks.simtrack import SEARCH_SIZE, TEMPLATE_SIZE
from sot_ros.trackers.base import Estimate, Tracker
from sot_ros.trackers.settings import setting

TEMPLATE_FACTOR = 2.0


@dataclass(frozen=True)
class SimTrackSettings:
    search_factor: float = setting(4.0, "side of the search region over the square root of the target's area", 2.0, 8.0)


class SimTrackTracker(Tracker):
    """Confidence: the lower of the probability peaks of the box's two corners. Upstream has none."""

    def set_template(self, image: np.ndarray, box: Box) -> None:
        patch, scale = stark_crop(image, box, TEMPLATE_FACTOR, TEMPLATE_SIZE)
        extent = torch.tensor([box.w, box.h]) * scale
        # The corner is truncated to whole pixels, as upstream has it.
        corner = ((TEMPLATE_SIZE - extent) / 2).trunc()
        place = torch.cat([corner, extent])[None] / TEMPLATE_SIZE
        self.template = self.network.embed(self.to_normalized(patch[None]), place.to(self.device))

    def locate(self, image: np.ndarray) -> Estimate:
        patch, scale = stark_crop(image, self.box, self.settings.search_factor, SEARCH_SIZE)
        corners, peak = self.network(self.template, self.to_normalized(patch[None]))
        x1, y1, x2, y2 = corners[0].tolist()
        found = stark_uncrop((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, self.box, SEARCH_SIZE, scale)
        self.box = clip(found, image.shape[1], image.shape[0])
        return Estimate(self.box, float(peak[0]))
