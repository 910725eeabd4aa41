"""Clips in which a target goes away and comes back, made from annotated sequences.

Each begins with BEFORE frames of the sequence and ends with AFTER more. In between the target is covered, leaves the
view, or the camera cuts to another scene. A sequence that is too short is played forwards and backwards in turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from sot_ros.evaluation.sequences import Sequence, read_image
from sot_ros.geometry import Box

BEFORE, AFTER = 30, 60
"""Frames with the target in view, before and after: one second to settle, two to be found again."""
COVERED = (15, 45, 90)
AWAY = 45
PAN = 10
"""Frames in which the camera turns away from the target, and back to it."""
OVERSHOOT = 0.25
"""By so much of its view's width the camera turns back too far."""
MARGIN = 0.1
"""A cover is larger than the target's box by this share of width and height on every side."""


Edges = tuple[int, int, int, int]


class Moment(NamedTuple):
    """One frame of a clip: the image, the target's box, cut to the image, and what share of it is in view."""

    image: np.ndarray
    truth: Box
    visible: float


@dataclass(frozen=True)
class Clip:
    """A target that goes away and comes back. `moments()` plays the clip from its first frame."""

    sequence: str
    kind: str
    moments: Callable[[], Iterator[Moment]]


def absences(sequences: list[Sequence]) -> list[Clip]:
    """All clips made from these sequences: from two starts in each, every length of cover, a turn away, and a cut.

    The other scene is the next sequence's; a single sequence therefore has covers only.
    """
    clips = []
    for i, sequence in enumerate(sequences):
        other = sequences[(i + 1) % len(sequences)]
        for start in (0.0, 0.5):
            player = Player(sequence, start)
            clips += [_clip(player, f"cover {n}", cover, n) for n in COVERED]
            if other is not sequence:
                clips += [_clip(player, play.__name__, play, Player(other, start)) for play in (leave, cut)]
    return clips


def _clip(player: Player, kind: str, play: Callable[..., Iterator[Moment]], *arguments) -> Clip:
    return Clip(player.name, kind, lambda: play(player, *arguments))


class Player:
    """A sequence played from a share `start` of its length on, forwards and backwards in turn, without end.

    Only its longest stretch in which the target's box is known is played.
    """

    def __init__(self, sequence: Sequence, start: float):
        self.name = sequence.name
        known = ~np.isnan(sequence.truth).any(axis=1)
        edges = np.flatnonzero(np.diff(np.r_[0, known, 0]))
        first, end = max(zip(edges[::2], edges[1::2], strict=True), key=lambda stretch: stretch[1] - stretch[0])
        self._frames, self._truth = sequence.frames[first:end], sequence.truth[first:end]
        self._start = int(start * (end - first))

    def image(self, t: int) -> np.ndarray:
        return _read(self._frames[self._index(t)])

    def truth(self, t: int) -> Box:
        return Box(*self._truth[self._index(t)].tolist())

    def _index(self, t: int) -> int:
        last = len(self._frames) - 1
        return last - abs(last - (self._start + t) % max(1, 2 * last))


_read = lru_cache(maxsize=400)(read_image)


def cover(player: Player, length: int) -> Iterator[Moment]:
    """The target is hidden for `length` frames under a piece of the same frame's background, which moves with it."""
    hidden = range(BEFORE, BEFORE + length)
    height, width = player.image(0).shape[:2]
    covers = {t: _edges(_grown(player.truth(t)), width, height) for t in hidden}
    fits = [min(_fit(edges, side, width, height) for edges in covers.values()) for side in range(4)]
    side = int(np.argmax(fits))
    for t in range(BEFORE + length + AFTER):
        image, visible = player.image(t), 1.0
        if t in covers:
            image, visible = _covered(image, covers[t], side), 0.0
        yield Moment(image, player.truth(t), visible)


def covered(image: np.ndarray, box: Box) -> np.ndarray:
    """The image with a target hidden under a piece of what lies beside it, on the side where there is most room."""
    edges = _edges(_grown(box), image.shape[1], image.shape[0])
    fits = [_fit(edges, side, image.shape[1], image.shape[0]) for side in range(4)]
    return _covered(image, edges, int(np.argmax(fits)))


def _covered(image: np.ndarray, edges: Edges, side: int) -> np.ndarray:
    x1, y1, x2, y2 = edges
    hidden = image.copy()
    hidden[y1:y2, x1:x2] = cv2.resize(_beside(image, edges, side), (x2 - x1, y2 - y1))
    return hidden


def _bands(edges: Edges, width: int, height: int) -> list[Edges]:
    """What lies left of, right of, above and below a region of the image."""
    x1, y1, x2, y2 = edges
    return [(0, 0, x1, height), (x2, 0, width, height), (0, 0, width, y1), (0, y2, width, height)]


def _fit(edges: Edges, side: int, width: int, height: int) -> float:
    """How much of a region's size there is room for on one side of it, 0..1."""
    (x1, y1, x2, y2), band = edges, _bands(edges, width, height)[side]
    return min(1.0, (band[2] - band[0]) / (x2 - x1), (band[3] - band[1]) / (y2 - y1))


def _beside(image: np.ndarray, edges: Edges, side: int) -> np.ndarray:
    """A piece of the image from one side of a region, as large as the region, or smaller where there is no room."""
    height, width = image.shape[:2]
    share = _fit(edges, side, width, height)
    x1, y1, x2, y2 = _bands(edges, width, height)[side]
    w, h = (max(1, int((edges[i + 2] - edges[i]) * share)) for i in (0, 1))
    x, y = min((x1 + x2 - w) // 2, width - w), min((y1 + y2 - h) // 2, height - h)
    return image[y : y + h, x : x + w]


def _grown(box: Box) -> Box:
    return Box.from_center(*box.center, box.w * (1 + 2 * MARGIN), box.h * (1 + 2 * MARGIN))


def _edges(box: Box, width: int, height: int) -> Edges:
    """Left, top, right and lower edge of a box in whole pixels within an image, at least one pixel apart."""
    x1, y1 = min(max(0, math.floor(box.x)), width - 1), min(max(0, math.floor(box.y)), height - 1)
    x2, y2 = max(x1 + 1, min(math.ceil(box.x + box.w), width)), max(y1 + 1, min(math.ceil(box.y + box.h), height))
    return x1, y1, x2, y2


def leave(player: Player, other: Player) -> Iterator[Moment]:
    """The camera turns away from the target, and back a little too far, so that the target is elsewhere in the view.

    Beside the sequence's frame, where the camera turns to, stands one frame of another sequence, as high as this one.
    """
    height, width = player.image(0).shape[:2]
    beside = cv2.resize(other.image(0), (width, height))
    # Through the nearer border.
    turned = width if player.truth(BEFORE).center[0] < width / 2 else -width
    back = BEFORE + PAN + AWAY
    shifts = np.interp(range(back + PAN + AFTER), [BEFORE - 1, BEFORE + PAN, back, back + PAN], [0, 1, 1, -OVERSHOOT])
    for t, shift in enumerate(shifts):
        x, truth = round(turned * shift), player.truth(t)
        panorama = np.concatenate([beside, player.image(t), beside], axis=1)
        left, right = (min(max(0.0, edge - x), width) for edge in (truth.x, truth.x + truth.w))
        view = np.ascontiguousarray(panorama[:, width + x : 2 * width + x])
        yield Moment(view, Box(left, truth.y, right - left, truth.h), (right - left) / truth.w)


def cut(player: Player, other: Player) -> Iterator[Moment]:
    """For AWAY frames the camera shows another sequence, resized; the target moves on meanwhile."""
    height, width = player.image(0).shape[:2]
    for t in range(BEFORE + AWAY + AFTER):
        elsewhere = BEFORE <= t < BEFORE + AWAY
        image = cv2.resize(other.image(t), (width, height)) if elsewhere else player.image(t)
        yield Moment(image, player.truth(t), float(not elsewhere))
