"""The picture of a tracked frame: the box, and a line with state, confidence and rate."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

COLORS = {
    "IDLE": (160, 160, 160),
    "TRACKING": (60, 220, 90),
    "OCCLUDED": (255, 180, 0),
    "LOST": (240, 60, 60),
    "STALE": (200, 120, 240),
}
"""RGB of each state."""


def draw(
    image: np.ndarray, box: Sequence[float] | None, state: str, confidence: float, rate: float
) -> np.ndarray:
    """A copy of `image`, RGB uint8 (H, W, 3), with the target drawn on it.

    box         x, y, w, h in pixels; None draws no box
    state       a name of TrackedBox.msg: IDLE, TRACKING, OCCLUDED, LOST or STALE
    confidence  0..1
    rate        frames per second
    """
    canvas = np.ascontiguousarray(image).copy()
    color = COLORS[state]
    height, width = canvas.shape[:2]
    line = _line(canvas)
    if box is not None:
        draw_box(canvas, box, state)
    text = f"{state}  {confidence:.2f}  {rate:.0f} Hz"
    font = cv2.FONT_HERSHEY_SIMPLEX
    # 0.45 is the smallest size at which this font can be read; the widest text still fits into the image.
    size = max(0.45, height / 800)
    (text_width, text_height), below = cv2.getTextSize(text, font, size, line)
    size *= min(1.0, 0.95 * width / text_width)
    (text_width, text_height), below = cv2.getTextSize(text, font, size, line)
    bar = text_height + 2 * below
    cv2.rectangle(canvas, (0, 0), (text_width + 2 * below, bar), (0, 0, 0), cv2.FILLED)
    cv2.putText(canvas, text, (below, text_height + below // 2), font, size, color, line, cv2.LINE_AA)
    return canvas


def draw_box(canvas: np.ndarray, box: Sequence[float], state: str, name: str = "") -> None:
    """Draw a box x, y, w, h in the colour of its state on `canvas`, with its name inside the top-left corner."""
    color, line = COLORS[state], _line(canvas)
    x, y, w, h = box
    corners = (round(x), round(y)), (round(x + w), round(y + h))
    cv2.rectangle(canvas, *corners, (0, 0, 0), 3 * line)
    cv2.rectangle(canvas, *corners, color, line)
    size = max(0.45, len(canvas) / 800)
    at = round(x) + 3 * line, round(y) + 3 * line + round(22 * size)  # letters of this font are 22 pixels high
    for shade, width in (((0, 0, 0), 3 * line), (color, line)):
        cv2.putText(canvas, name, at, cv2.FONT_HERSHEY_SIMPLEX, size, shade, width, cv2.LINE_AA)


def _line(canvas: np.ndarray) -> int:
    """How thick lines are on an image of this size."""
    return max(1, round(len(canvas) / 300))


def draw_kept(patch: np.ndarray, kept: Sequence[np.ndarray]) -> np.ndarray:
    """A search region, and beside it what each of OSTrack's eliminations left: cells that are gone fade to white.

    patch is (S, S, 3) uint8, kept the (n, n) bool masks of `OSTrackTracker.kept`; returns (S, S + S * len(kept), 3).
    """
    faded = cv2.addWeighted(patch, 0.2, np.full_like(patch, 255), 0.8, 0)
    pictures = [patch]
    for mask in kept:
        cells = cv2.resize(mask.astype(np.uint8), patch.shape[:2], interpolation=cv2.INTER_NEAREST)
        pictures.append(np.where(cells[..., None] > 0, patch, faded))
    return np.hstack(pictures)
