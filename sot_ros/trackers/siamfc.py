"""SiamFC's pipeline: correlate the first template with the search region at several scales.

Source of every step and constant: `TrackerSiamFC` in huanglianghua/siamfc-pytorch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from torch import Tensor

from sot_ros.crops import siamfc_crop
from sot_ros.geometry import Box
from sot_ros.networks.siamfc import STRIDE
from sot_ros.trackers.base import Estimate, Search, Tracker
from sot_ros.trackers.settings import setting

TEMPLATE_SIZE = 127
RESPONSE_UPSAMPLING = 16
CONTEXT = 0.5
"""Margin around the target in the template, as a share of width plus height."""


@dataclass(frozen=True)
class SiamFCSettings:
    search_factor: float = setting(
        255 / 127, "side of the search region over side of the template region", 1.2, 6.0, computes=True
    )
    scale_num: int = setting(3, "number of scales searched, odd", 1, 15, computes=True)
    scale_step: float = setting(1.0375, "ratio between neighbouring scales", 1.001, 1.5)
    scale_penalty: float = setting(0.9745, "factor on the response of every scale but the middle one", 0.0, 1.0)
    scale_lr: float = setting(0.59, "share of a scale change taken over in one frame", 0.0, 1.0)
    window_influence: float = setting(0.176, "share of the cosine window in the response", 0.0, 1.0)

    def __post_init__(self):
        if self.scale_num % 2 == 0:
            raise ValueError(f"scale_num {self.scale_num} refused: an odd number is accepted")


class SiamFCTracker(Tracker):
    """Confidence: the response's peak over its peak on the first frame, clipped to 0..1. Upstream has none."""

    def set_template(self, image: np.ndarray, box: Box) -> None:
        border = image.mean(axis=(0, 1))
        patch = siamfc_crop(image, pixel_center(box), template_side(box), TEMPLATE_SIZE, border)
        (self.template,), self.border = self.embed_cut(patch[None]), border
        # As many scales as in a search, for a network that takes no other number of them.
        [first] = self.run([self._responses(image, box, np.ones(self.settings.scale_num))])
        self.first_peak = first.max()

    def locate(self, image: np.ndarray) -> Search:
        s = self.settings
        side = s.scale_num // 2
        scales = s.scale_step ** np.arange(-side, side + 1, dtype=float)
        responses = yield from self._responses(image, self.box, scales)
        up = responses.shape[1] * RESPONSE_UPSAMPLING
        responses = np.stack([cv2.resize(r, (up, up), interpolation=cv2.INTER_CUBIC) for r in responses])
        responses[np.arange(len(scales)) != side] *= s.scale_penalty
        best = responses.max(axis=(1, 2)).argmax()
        response, scale = responses[best], scales[best]
        peak = response.max()

        response = response - response.min()
        response /= response.sum() + 1e-16
        window = np.outer(np.hanning(up), np.hanning(up))
        response = (1 - s.window_influence) * response + s.window_influence * window / window.sum()
        row, column = np.unravel_index(response.argmax(), response.shape)

        # One step of the upsampled response is this many image pixels.
        step = STRIDE / RESPONSE_UPSAMPLING * scale * self._search_side(self.box) / self._search_size()
        cx, cy = self.box.center
        cx, cy = cx + (column - (up - 1) / 2) * step, cy + (row - (up - 1) / 2) * step
        growth = 1 - s.scale_lr + s.scale_lr * scale
        self.box = Box.from_center(cx, cy, self.box.w * growth, self.box.h * growth)
        return Estimate(self.box, float(np.clip(peak / max(self.first_peak, 1e-12), 0, 1)))

    def embed(self, patches: Tensor) -> tuple[Tensor]:
        return (self.network.embed(self.to_device(patches)),)

    def compute(self, templates: Tensor, patches: Tensor) -> tuple[Tensor]:
        responses = self.network(templates, self.to_device(patches.flatten(0, 1))).float()
        return (responses[:, 0].unflatten(0, patches.shape[:2]),)

    def _responses(self, image: np.ndarray, box: Box, scales: np.ndarray) -> Search:
        """Responses (S, h, w) of the template over the search region of `box` at each of S scales."""
        size, side, center = self._search_size(), self._search_side(box), pixel_center(box)
        patches = [siamfc_crop(image, center, side * scale, size, self.border) for scale in scales]
        (responses,) = yield self.template, np.stack(patches)[None]
        return responses.numpy()

    def _search_size(self) -> int:
        """Side of the network's search input: a whole number of strides wider than the template."""
        return TEMPLATE_SIZE + STRIDE * round(TEMPLATE_SIZE * (self.settings.search_factor - 1) / STRIDE)

    def _search_side(self, box: Box) -> float:
        """Side of the search region in image pixels, at the same scale as the template."""
        return template_side(box) * self._search_size() / TEMPLATE_SIZE


def pixel_center(box: Box) -> tuple[float, float]:
    """The pixel (x, y) in the middle of the box, in SiamFC's convention: a box of one pixel is centred on it."""
    return box.x + (box.w - 1) / 2, box.y + (box.h - 1) / 2


def template_side(box: Box) -> float:
    """Side of the template region in image pixels: the square with the area of the box and its context."""
    context = CONTEXT * (box.w + box.h)
    return math.sqrt((box.w + context) * (box.h + context))
