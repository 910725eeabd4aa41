"""The life of one target, over any tracker: idle, tracking, occluded, lost, tracking again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from sot_ros.geometry import Box
from sot_ros.trackers import Tracker
from sot_ros.trackers.settings import setting


class State(IntEnum):
    """The states of TrackedBox.msg, with its numbers."""

    IDLE = 0
    TRACKING = 1
    OCCLUDED = 2
    LOST = 3


class Target(NamedTuple):
    """What the session says of its target on one frame. While IDLE, the box is all zero."""

    state: State
    target_id: int
    box: Box
    confidence: float


@dataclass
class Thresholds:
    """When a target counts as hidden or gone. May be changed between two frames.

    Raises ValueError for values that contradict each other.
    """

    occluded_below: float = setting(0.3, "TRACKING turns into OCCLUDED under this confidence", 0.0, 1.0)
    tracking_above: float = setting(0.5, "OCCLUDED and LOST turn into TRACKING from this confidence on", 0.0, 1.0)
    coast_s: float = setting(2.0, "OCCLUDED turns into LOST after this many seconds", 0.0, 3600.0)

    def __post_init__(self):
        if not 0 <= self.occluded_below <= self.tracking_above <= 1:
            raise ValueError(
                f"occluded_below {self.occluded_below:g} and tracking_above {self.tracking_above:g} refused: "
                "0 <= occluded_below <= tracking_above <= 1 is accepted"
            )
        if not self.coast_s >= 0:
            raise ValueError(f"coast_s {self.coast_s:g} refused: 0 or more seconds are accepted")


class Session:
    """One target at a time, followed by one tracker."""

    def __init__(self, tracker: Tracker, thresholds: Thresholds):
        self.tracker = tracker
        self.thresholds = thresholds
        self._seen_at = 0.0
        self._target = Target(State.IDLE, 0, Box(0, 0, 0, 0), 0.0)

    @property
    def target(self) -> Target:
        """The target as of the last frame."""
        return self._target

    def start(self, image: np.ndarray, box: Sequence[float], time: float) -> Target:
        """Take a new target, (x, y, w, h) on `image` seen at `time` in seconds.

        Raises ValueError for an image or box that cannot be used; the previous target, if any, is then kept.
        """
        self.tracker.initialize(image, box)
        self._seen_at = time
        self._target = Target(State.TRACKING, self._target.target_id + 1, self.tracker.box, 1.0)
        return self._target

    def stop(self) -> None:
        """Let the target go."""
        self._target = Target(State.IDLE, self._target.target_id, Box(0, 0, 0, 0), 0.0)

    def update(self, image: np.ndarray, time: float) -> Target:
        """Look for the target on the next frame, seen at `time` in seconds.

        A lost target is claimed nowhere: confidence 0, and the last box is repeated while its surroundings are
        searched.
        """
        if self._target.state is State.IDLE:
            return self._target
        last = self._target
        self.tracker.visible = last.state is State.TRACKING
        estimate = self.tracker.track(image)
        state = self._next_state(estimate.confidence, time)
        if state is State.LOST:
            self.tracker.box = last.box
            self._target = Target(state, last.target_id, last.box, 0.0)
        else:
            self._target = Target(state, last.target_id, estimate.box, estimate.confidence)
        return self._target

    def _next_state(self, confidence: float, time: float) -> State:
        tracking = self._target.state is State.TRACKING
        if confidence >= (self.thresholds.occluded_below if tracking else self.thresholds.tracking_above):
            self._seen_at = time
            return State.TRACKING
        gone = self._target.state is State.LOST or time - self._seen_at > self.thresholds.coast_s
        return State.LOST if gone else State.OCCLUDED
