"""Several targets on one network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sot_ros.trackers.base import Estimate, Tracker, track_together


class MultiTracker:
    """A list of boxes in, a list of estimates out: the targets are tracked as one batch, each as it would be alone."""

    def __init__(self, tracker: Tracker):
        self._tracker = tracker
        self.trackers: list[Tracker] = []
        """One for each target, in the order of the boxes. A target leaves when its tracker is removed; one joins when
        an initialized `sibling` is appended."""

    def initialize(self, image: np.ndarray, boxes: Sequence[Sequence[float]]) -> None:
        """Take what each of the boxes (x, y, w, h) holds on `image`, (H, W, 3) uint8 RGB, as a target from now on.

        Raises ValueError for an image or box that cannot be used; the previous targets are then kept.
        """
        trackers = [self._tracker.sibling() for _ in boxes]
        for tracker, box in zip(trackers, boxes, strict=True):
            tracker.initialize(image, box)
        self.trackers = trackers

    def track(self, image: np.ndarray) -> list[Estimate]:
        """Find the targets on the next frame; see `track_together`."""
        return track_together(self.trackers, image)
