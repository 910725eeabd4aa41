"""Boxes in the image plane. Neither torch nor ROS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Box(NamedTuple):
    """An axis-aligned box in pixels, 0-indexed: the top-left corner (x, y), width w and height h."""

    x: float
    y: float
    w: float
    h: float

    @classmethod
    def from_center(cls, cx: float, cy: float, w: float, h: float) -> Box:
        """The box of size w, h around the point (cx, cy)."""
        return cls(cx - w / 2, cy - h / 2, w, h)

    @property
    def center(self) -> tuple[float, float]:
        """The middle (cx, cy) of the box."""
        return self.x + self.w / 2, self.y + self.h / 2

    def scaled(self, sx: float, sy: float) -> Box:
        """The box in the same image sx times as wide and sy times as high."""
        return Box(self.x * sx, self.y * sy, self.w * sx, self.h * sy)


def intersection(a: Box, b: Box) -> float:
    """Area that two boxes share, in square pixels."""
    w = min(a.x + a.w, b.x + b.w) - max(a.x, b.x)
    h = min(a.y + a.h, b.y + b.h) - max(a.y, b.y)
    return max(0.0, w) * max(0.0, h)


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, 0..1. Two boxes without area have 0."""
    shared = intersection(a, b)
    union = a.w * a.h + b.w * b.h - shared
    return shared / union if union > 0 else 0.0


def clip(box: Box, width: int, height: int, margin: float = 10) -> Box:
    """The box cut to an image, never narrower than `margin` pixels nor further out than that from the border.

    This is `clip_box` of STARK, OSTrack and SimTrack, with their margin of 10.
    """
    x1, x2 = min(max(0.0, box.x), width - margin), min(max(margin, box.x + box.w), width)
    y1, y2 = min(max(0.0, box.y), height - margin), min(max(margin, box.y + box.h), height)
    return Box(x1, y1, max(margin, x2 - x1), max(margin, y2 - y1))


def check_box(box: Sequence[float], width: int, height: int) -> Box:
    """`box` as a Box that a tracker can start from.

    Raises ValueError for a box that is not four finite numbers, has no area, or lies wholly outside the image
    of width x height pixels.
    """
    try:
        checked = Box(*map(float, box))
    except (TypeError, ValueError):
        raise ValueError(f"box {box!r} refused: four numbers x, y, w, h are accepted") from None
    text = "({:g}, {:g}, {:g}, {:g})".format(*checked)
    if not all(map(math.isfinite, checked)):
        raise ValueError(f"box {text} refused: x, y, w and h must be finite")
    if checked.w <= 0 or checked.h <= 0:
        raise ValueError(f"box {text} refused: width and height must be above 0")
    if intersection(checked, Box(0, 0, width, height)) <= 0:
        raise ValueError(f"box {text} refused: it lies outside the {width}x{height} image")
    return checked
