"""Where a target that is out of view may be: where its motion leads for a moment, then anywhere in the frame."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import cycle

from sot_ros.geometry import Box

VELOCITY_S = 0.2
"""Seconds that the velocity is averaged over."""
COAST_S = 0.3
"""Seconds after which 63 % of the way that is coasted lie behind: the velocity decays by exp(-t / COAST_S)."""
STEP = 2.0
"""From one place to the next while searching, in square roots of the target's area. Search regions are about 4 wide."""


class Motion:
    """The velocity of a target's centre from its boxes and their times in seconds, and where it leads."""

    def __init__(self, box: Box, time: float):
        self.box, self.time = box, time
        self.velocity = (0.0, 0.0)
        """Of the centre, in pixels a second."""

    def see(self, box: Box, time: float) -> None:
        """The target was seen in `box` at `time`. A time that is not later than the last tells nothing of velocity."""
        elapsed = time - self.time
        if elapsed > 0:
            keep = math.exp(-elapsed / VELOCITY_S)
            step = [(b - a) / elapsed for a, b in zip(self.box.center, box.center, strict=True)]
            self.velocity = tuple(keep * v + (1 - keep) * s for v, s in zip(self.velocity, step, strict=True))
        self.box, self.time = box, time

    def scale(self, sx: float, sy: float) -> None:
        """Go on in images sx times as wide and sy times as high."""
        self.box, self.velocity = self.box.scaled(sx, sy), (self.velocity[0] * sx, self.velocity[1] * sy)

    def predict(self, time: float, width: int, height: int) -> Box:
        """The box at `time`, of the last size; its centre stays in the image of `width` x `height` pixels."""
        reach = COAST_S * (1 - math.exp(-max(0.0, time - self.time) / COAST_S))
        moved = (c + v * reach for c, v in zip(self.box.center, self.velocity, strict=True))
        cx, cy = (min(max(0.0, c), side) for c, side in zip(moved, (width, height), strict=True))
        return Box.from_center(cx, cy, self.box.w, self.box.h)


def places(box: Box, width: int, height: int) -> Iterator[Box]:
    """Where to search for what vanished at `box`: a grid over the whole image, nearest first, again and again."""
    step = STEP * math.sqrt(box.w * box.h)
    cx, cy = (min(max(0.0, c), side) for c, side in zip(box.center, (width, height), strict=True))
    centers = [(x, y) for x in _marks(cx, step, width) for y in _marks(cy, step, height)]
    centers.sort(key=lambda c: max(abs(c[0] - cx), abs(c[1] - cy)))
    return cycle([Box.from_center(*c, box.w, box.h) for c in centers])


def _marks(middle: float, step: float, side: float) -> list[float]:
    """Places `step` apart on both sides of `middle` so that none of 0..side is further than half a step from one."""
    before, after = math.ceil(middle / step - 0.5), math.ceil((side - middle) / step - 0.5)
    return [min(max(0.0, middle + i * step), side) for i in range(-before, after + 1)]
