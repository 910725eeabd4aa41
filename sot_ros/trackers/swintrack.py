"""SwinTrack's pipeline: one template, a box at every token of the search region, and the past boxes where asked for.

Source of every step and constant: LitingLin/SwinTrack, config/SwinTrack and data/tracking; of the motion token, which
is not in that code, Lin et al., "SwinTrack: A Simple and Strong Baseline for Transformer Tracking", NeurIPS 2022.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sot_ros.crops import stark_uncrop, swintrack_crop
from sot_ros.geometry import Box
from sot_ros.networks.swintrack import STRIDE
from sot_ros.trackers.base import Estimate, Search, Tracker
from sot_ros.trackers.settings import setting

TEMPLATE_FACTOR = 2.0
SMALLEST_TARGET = 10.0
"""Pixels: the search region of a narrower target is cut as if it were this wide."""
BORDER = 0.5
"""Pixels that the tracker's box stays clear of the image's border."""


@dataclass(frozen=True)
class SwinTrackSettings:
    search_factor: float = setting(
        4.0, "area of the search region: width and height of the target grow by this less 1, times their mean", 1.5, 8.0
    )
    window_influence: float = setting(0.49, "share of the cosine window in the scores", 0.0, 1.0, computes=True)


@dataclass(frozen=True)
class SwinTrackMotionSettings(SwinTrackSettings):
    """The three defaults are ours: weights with a motion token are published in no layout that is known."""

    motion_boxes: int = setting(
        16, "past boxes in the motion token; 4 embeddings for each fill its channels", 1, 128, builds=True
    )
    motion_interval: int = setting(15, "frames from one of these boxes to the next", 1, 300)
    motion_granularity: int = setting(
        64, "steps in which their edges are told apart across the search region", 2, 1024, builds=True
    )


class SwinTrackTracker(Tracker):
    """Confidence: the score at the chosen place without the window, trained to be the box's IoU with the target."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        with self.inference():
            self.biases = self.network.biases()
        hann = torch.hann_window(self.network.search_size // STRIDE, periodic=False, device=self.device)
        self.window = torch.outer(hann, hann).flatten()

    def set_template(self, image: np.ndarray, box: Box) -> None:
        border = image.mean(axis=(0, 1))
        patch, _ = swintrack_crop(image, box, TEMPLATE_FACTOR, self.network.template_size, border)
        (self.template,), self.border = self.embed_cut(patch[None]), border

    def locate(self, image: np.ndarray) -> Search:
        size = self.network.search_size
        around = Box.from_center(*self.box.center, *(max(side, SMALLEST_TARGET) for side in self.box[2:]))
        patch, scale = swintrack_crop(image, around, self.settings.search_factor, size, self.border)
        box, score = yield self.template, patch[None], *self.places(around, size / scale)
        found = stark_uncrop(*box.tolist(), around, size, scale)
        self.box = within(found, image.shape[1], image.shape[0]) or self.box
        return Estimate(found, score.item())

    def embed(self, patches: Tensor) -> tuple[Tensor]:
        return (self.network.embed(self.to_normalized(patches)),)

    def compute(self, templates: Tensor, patches: Tensor, *places: Tensor) -> tuple[Tensor, Tensor]:
        found = self.network(templates, self.to_normalized(patches), self.biases, *places)
        scores, boxes = (m.float() for m in found)
        influence = self.settings.window_influence
        best = ((1 - influence) * scores + influence * self.window).argmax(dim=1, keepdim=True)
        return boxes.gather(1, best[..., None].expand(-1, -1, 4))[:, 0], scores.gather(1, best)[:, 0]

    def places(self, around: Box, side: float) -> tuple[np.ndarray, ...]:
        """What the network hears of the target's past, for a search region of `side` image pixels: nothing here."""
        return ()


class SwinTrackMotionTracker(SwinTrackTracker):
    """`SwinTrackTracker` for a network with a motion token: it remembers where the target was."""

    def set_template(self, image: np.ndarray, box: Box) -> None:
        super().set_template(image, box)
        s = self.settings
        self.history: deque[Box | None] = deque(maxlen=(s.motion_boxes - 1) * s.motion_interval + 1)

    def places(self, around: Box, side: float) -> tuple[np.ndarray, ...]:
        s = self.settings
        self.history.appendleft(self.box if self.visible else None)
        sampled = list(self.history)[:: s.motion_interval]
        sampled += [None] * (s.motion_boxes - len(sampled))
        return (motion_places(sampled, around, side, s.motion_granularity)[None],)


def motion_places(boxes: Sequence[Box | None], around: Box, side: float, granularity: int) -> np.ndarray:
    """Past boxes, newest first, as places (n, 4) of left, top, right and lower edge that a `MotionToken` takes.

    The search region of `side` image pixels, centred on `around`, is divided into `granularity` equal steps, counted
    from 0; edges outside it count to its first or last step. A box that is None has the place `granularity`.
    """
    places = np.full((len(boxes), 4), granularity, dtype=np.int64)
    for row, box in zip(places, boxes, strict=True):
        if box is not None:
            edges = np.array([box.x, box.y, box.x + box.w, box.y + box.h]) - np.array(around.center * 2)
            row[:] = np.clip((edges / side + 0.5) * granularity, 0, granularity - 1)
    return places


def within(box: Box, width: int, height: int) -> Box | None:
    """The part of the box at least half a pixel inside the image; None where there is none."""
    x1, y1 = max(box.x, BORDER), max(box.y, BORDER)
    x2, y2 = min(box.x + box.w, width - BORDER), min(box.y + box.h, height - BORDER)
    return Box(x1, y1, x2 - x1, y2 - y1) if x1 < x2 and y1 < y2 else None
