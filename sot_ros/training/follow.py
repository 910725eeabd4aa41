"""A box that no one drew, followed through a clip by what lies in it."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from sot_ros.geometry import Box

FEWEST = 12
"""Points that have to be followed for a box to be."""
ASTRAY = 1.0
"""Most pixels by which a point may miss its place when it is followed back."""
BENT = 2.0
"""Most pixels by which a point may be off the affine motion that most points share."""


def follow(images: Iterable[np.ndarray], box: Box) -> list[Box]:
    """The box on each image, for as long as one motion explains most of what it holds; on the first it is `box`.

    Points are followed by optical flow from image to image and back (Kalal, Mikolajczyk, Matas, 2010: forward-backward
    error), and the box moves and stretches along each axis as they do.
    """
    boxes, points, last = [], np.empty((0, 2), np.float32), None
    for image in images:
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if last is not None:
            before, after = _flow(last, gray, points)
            share = len(after) / len(points)
            before, after = _moved_together(before, after)
            if len(after) < max(FEWEST, len(points) / 3) or share < 0.5:
                break
            box, points = _moved(box, before, after), after
        height, width = gray.shape
        if box.x < 0 or box.y < 0 or box.x + box.w > width or box.y + box.h > height:
            break
        boxes.append(box)
        if len(points) < 2 * FEWEST:
            points = _corners_in(gray, box)
            if len(points) < FEWEST:
                break
        last = gray
    return boxes


def _corners_in(gray: np.ndarray, box: Box) -> np.ndarray:
    """Points (N, 2) in the box that can be told from their surroundings."""
    x, y, w, h = (int(side) for side in box)
    points = cv2.goodFeaturesToTrack(gray[y : y + h, x : x + w], 80, 0.005, 2)
    return np.empty((0, 2), np.float32) if points is None else points[:, 0] + np.float32([x, y])


def _flow(last: np.ndarray, now: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those points that come back to where they were, before and after."""
    after, there, _ = cv2.calcOpticalFlowPyrLK(last, now, points, None, winSize=(15, 15), maxLevel=3)
    back, here, _ = cv2.calcOpticalFlowPyrLK(now, last, after, None, winSize=(15, 15), maxLevel=3)
    found = (there & here)[:, 0].astype(bool) & (np.linalg.norm(back - points, axis=1) < ASTRAY)
    return points[found], after[found]


def _moved_together(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those points that one affine motion explains; none where too few do to tell."""
    if len(before) < FEWEST:
        return before[:0], after[:0]
    cv2.setRNGSeed(0)
    motion, together = cv2.estimateAffine2D(before, after, ransacReprojThreshold=BENT)
    together = together[:, 0].astype(bool) if motion is not None else np.zeros(len(before), bool)
    return before[together], after[together]


def _moved(box: Box, before: np.ndarray, after: np.ndarray) -> Box:
    edges = np.array([[box.x, box.x + box.w], [box.y, box.y + box.h]])
    motions = [np.polyfit(before[:, axis], after[:, axis], 1) for axis in (0, 1)]
    (x1, x2), (y1, y2) = (stretch * e + shift for e, (stretch, shift) in zip(edges, motions, strict=True))
    return Box(x1, y1, max(x2 - x1, 0.0), max(y2 - y1, 0.0))
