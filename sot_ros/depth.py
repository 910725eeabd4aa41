"""How far away a target is, by a depth image. Neither torch nor ROS."""

from __future__ import annotations

import math

import numpy as np

from sot_ros.geometry import Box

MIDDLE = 0.5
"""Share of the box's width and height, around its centre, that is looked at: its corners mostly show the background."""
SPREAD = 0.1
"""Depths that differ by up to this share belong to one surface."""
LEAST = 0.2
"""Share of the measured pixels that the nearest surface must have. Fewer are a wire, a raindrop, an edge's noise."""
MOST_PIXELS = 10000
"""A larger box is looked at in every second, third, ... row and column."""


def distance_in_box(depth: np.ndarray, box: Box) -> float | None:
    """The depth of what is in a box: the median of the nearest surface that fills a good part of the box's middle.

    depth   (H, W) along the optical axis, in any unit; 0, NaN, inf and negative values are holes
    box     in the pixels of `depth`

    None where nothing was measured. Neither holes nor the background in the box move the result.
    """
    values = _middle(depth, box).astype(float).ravel()
    values = np.sort(values[np.isfinite(values) & (values > 0)])
    if not len(values):
        return None
    # Of every window of depths [near, near * (1 + SPREAD)]: where it ends, and how many values it holds.
    ends = np.searchsorted(values, values * (1 + SPREAD), side="right")
    held = ends - np.arange(len(values))
    first = np.argmax(held >= LEAST * len(values)) if held.max() >= LEAST * len(values) else np.argmax(held)
    # That is the first window that reaches far enough into the surface; the fullest one close to it has all of it.
    fullest = first + np.argmax(held[first : ends[first]])
    return float(np.median(values[fullest : ends[fullest]]))


def _middle(depth: np.ndarray, box: Box) -> np.ndarray:
    """The pixels in the middle of a box, at least one where the box's centre is in the image."""
    height, width = depth.shape
    x, y, w, h = Box.from_center(*box.center, MIDDLE * box.w, MIDDLE * box.h)
    left, right = max(0, math.floor(x)), min(width, max(math.ceil(x + w), math.floor(x) + 1))
    top, bottom = max(0, math.floor(y)), min(height, max(math.ceil(y + h), math.floor(y) + 1))
    step = max(1, math.ceil(math.sqrt(max(0, right - left) * max(0, bottom - top) / MOST_PIXELS)))
    return depth[top:bottom:step, left:right:step]
