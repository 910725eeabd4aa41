"""The life of one target, over any tracker: idle, tracking, occluded, lost, tracking again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from sot_ros.geometry import Box, intersection, iou
from sot_ros.recovery import Motion, places
from sot_ros.trackers import Estimate, Tracker
from sot_ros.trackers.settings import setting


class State(IntEnum):
    """The states of TrackedBox.msg, with its numbers."""

    IDLE = 0
    TRACKING = 1
    OCCLUDED = 2
    LOST = 3
    STALE = 4
    """Said by the node when no image is answered; a session never says it."""


class Target(NamedTuple):
    """What the session says of its target on one frame. While IDLE, the box is all zero."""

    state: State
    target_id: int
    box: Box
    confidence: float


@dataclass
class Thresholds:
    """When a target counts as hidden, gone, or found again. May be changed between two frames.

    Raises ValueError for values that contradict each other.
    """

    occluded_below: float = setting(0.3, "TRACKING turns into OCCLUDED under this confidence", 0.0, 1.0)
    tracking_above: float = setting(0.5, "OCCLUDED and LOST turn into TRACKING from this confidence on", 0.0, 1.0)
    coast_s: float = setting(2.0, "OCCLUDED turns into LOST after this many seconds", 0.0, 3600.0)
    confirm_frames: int = setting(3, "images in a row that have to confirm a target which was out of view", 1, 100)

    def __post_init__(self):
        if not 0 <= self.occluded_below <= self.tracking_above <= 1:
            raise ValueError(
                f"occluded_below {self.occluded_below:g} and tracking_above {self.tracking_above:g} refused: "
                "0 <= occluded_below <= tracking_above <= 1 is accepted"
            )
        if not self.coast_s >= 0:
            raise ValueError(f"coast_s {self.coast_s:g} refused: 0 or more seconds are accepted")
        if not self.confirm_frames >= 1:
            raise ValueError(f"confirm_frames {self.confirm_frames} refused: 1 or more are accepted")


RENEWAL = 0.3
"""Share of the target's recent appearance that one more frame makes up, if its confidence is `tracking_above` or more.
Down to `occluded_below` that share falls to 0: what hides the target must not become its looks."""
USUAL_RENEWAL = 0.1
"""The same of how sure the tracker usually is of this target."""
IN_VIEW = 0.25
"""A box at the image's border says that the target has left the view when it is less than this share of the area that
it had before the border cut it."""
SAME_SHAPE = 0.01
"""Images whose ratios of width to height differ by no more than this share show the same view in another resolution."""
GLIMPSE = 0.2
"""From this confidence on, what is found of an OCCLUDED target may be it, in other looks, and is looked at again. What
hides a target has less when it comes between."""
SUGGESTIONS = 4
"""Boxes that are looked at for one call of `suggest`."""


class Session:
    """One target at a time, followed by one tracker. Targets are counted on from `target_id`.

    Where the tracker knows what a box looks like, confidence is how alike that is (cosine): while TRACKING, to the
    target's recent looks, of which any sudden change is suspicious; while OCCLUDED, to these or the first template;
    once LOST, to the first template alone. It is multiplied by the root of the tracker's own confidence as a share, at
    most 1, of what that usually is for this target. Without appearance it is the tracker's own.
    """

    def __init__(self, tracker: Tracker, thresholds: Thresholds, target_id: int = 0):
        self.tracker = tracker
        self.thresholds = thresholds
        self._target = Target(State.IDLE, target_id, Box(0, 0, 0, 0), 0.0)
        self._motion = Motion(Box(0, 0, 0, 0), 0.0)
        self._first: np.ndarray | None = None
        self._recent: np.ndarray | None = None
        self._usual: float | None = None
        self._size = (1, 1)  # of the last image: width, height
        self._places: Iterator[Box] = iter(())
        self._searched = (0, 0)  # the size of the images that the places are in
        self._candidate: Box | None = None
        self._confirmed = 0
        self._glimpse: Box | None = None
        self._at_glimpse = False
        self._whole = 0.0

    @property
    def target(self) -> Target:
        """The target as of the last frame."""
        return self._target

    def start(self, image: np.ndarray, box: Sequence[float], time: float) -> Target:
        """Take a new target, (x, y, w, h) on `image` seen at `time` in seconds.

        Raises ValueError for an image or box that cannot be used; the previous target, if any, is then kept.
        """
        self.tracker.initialize(image, box)
        self._first = self._recent = self.tracker.appearance
        self._usual = None
        self._size = image.shape[1::-1]
        self._motion = Motion(self.tracker.box, time)
        self._whole = 0.0
        self._target = Target(State.TRACKING, self._target.target_id + 1, self.tracker.box, 1.0)
        return self._target

    def stop(self) -> None:
        """Let the target go."""
        self._target = Target(State.IDLE, self._target.target_id, Box(0, 0, 0, 0), 0.0)

    def update(self, image: np.ndarray, time: float) -> Target:
        """Look for the target on the next frame, seen at `time` in seconds.

        While OCCLUDED, the box is where the target would be by its last motion. It is searched there and, in turn,
        where the last glimpse of it was. A LOST one is claimed nowhere: confidence 0, and the last box is repeated
        while it is searched, one place in a frame.
        """
        if not self.aim(image, time):
            return self._target
        return self.take(image, time, self.tracker.track(image))

    def aim(self, image: np.ndarray, time: float) -> bool:
        """The first half of `update`: point the tracker to where the target is searched. False where there is none."""
        if self._target.state is State.IDLE:
            return False
        height, width = image.shape[:2]
        self._fit(width, height)
        # A clock that went back would make the target's absence, or its motion, last until it is back.
        self._motion.time = min(self._motion.time, time)
        if self._target.state is State.TRACKING:
            self._point(self.tracker.box)
        else:
            self._point(self._candidate or self._next_place(time, width, height))
        return True

    def take(self, image: np.ndarray, time: float, estimate: Estimate) -> Target:
        """The second half of `update`: what the tracker found there, and what that says of the target."""
        height, width = image.shape[:2]
        found, confidence = self._judge(estimate)
        if self._target.state is State.TRACKING:
            in_view = self._in_view(found, width, height)
            seen = in_view and confidence >= self.thresholds.occluded_below
            if not seen:
                self._candidate, self._confirmed = None, 0
                self._searched = (0, 0)
                self._glimpse = found if in_view and confidence >= GLIMPSE else None
                self._at_glimpse = False
        else:
            self._consider(found, confidence)
            if self._at_glimpse:
                self._glimpse = found if confidence >= GLIMPSE else None
            seen = self._confirmed >= self.thresholds.confirm_frames
        if seen:
            self._learn(estimate.confidence, confidence)
            self._see(found, confidence, time)
        elif self._target.state is State.LOST or time - self._motion.time > self.thresholds.coast_s:
            self._target = self._target._replace(state=State.LOST, confidence=0.0)
        else:
            box = self._motion.predict(time, width, height)
            self._target = self._target._replace(state=State.OCCLUDED, box=box, confidence=confidence)
        return self._target

    def suggest(self, image: np.ndarray, boxes: Sequence[Box]) -> bool:
        """Boxes that a detector saw on `image`, a frame of late, for a target that is OCCLUDED or LOST.

        While OCCLUDED, only those count that overlap the predicted box, the most first. The first that looks like the
        target is what the next frames have to confirm. Returns whether there is one.
        """
        if self._target.state not in (State.OCCLUDED, State.LOST):
            return False
        height, width = image.shape[:2]
        boxes = [box for box in boxes if intersection(box, Box(0, 0, width, height)) > 0]
        if self._target.state is State.OCCLUDED:
            boxes = [box for box in boxes if iou(box, self._target.box) > 0]
            boxes.sort(key=lambda box: -iou(box, self._target.box))
        # Beginning anew each time, a detector as fast as the camera would never be confirmed. What it does not see,
        # though, gives way to what it sees.
        if self._candidate and any(iou(box, self._candidate) > 0.5 for box in boxes):
            return True
        for box in boxes[:SUGGESTIONS]:
            self._candidate, self._confirmed = None, 0
            self._point(box)
            found, confidence = self._judge(self.tracker.track(image))
            if iou(found, box) > 0.5:
                self._consider(found, confidence)
            if self._candidate:
                return True
        return False

    def _fit(self, width: int, height: int) -> None:
        """Where a camera has switched its resolution, carry all that is in pixels over to the new one."""
        sx, sy = width / self._size[0], height / self._size[1]
        self._size = width, height
        if sx == sy == 1 or abs(sx / sy - 1) > SAME_SHAPE:
            return
        self.tracker.box = self.tracker.box.scaled(sx, sy)
        self._target = self._target._replace(box=self._target.box.scaled(sx, sy))
        self._candidate = self._candidate and self._candidate.scaled(sx, sy)
        self._glimpse = self._glimpse and self._glimpse.scaled(sx, sy)
        self._motion.scale(sx, sy)
        self._whole *= sx * sy

    def _point(self, place: Box) -> None:
        """Let the tracker search around a place."""
        self.tracker.visible = self._target.state is State.TRACKING
        self.tracker.box = place

    def _judge(self, estimate: Estimate) -> tuple[Box, float]:
        """What the tracker found, and how sure it is that this is the target."""
        box, confidence = estimate
        seen = self.tracker.appearance
        if seen is None or self._first is None:
            return box, confidence
        state = self._target.state
        known = {State.TRACKING: [self._recent], State.OCCLUDED: [self._recent, self._first], State.LOST: [self._first]}
        likeness = max(float(seen @ looks) for looks in known[state])
        usual = confidence if self._usual is None else self._usual
        return box, math.sqrt(min(1.0, confidence / usual) if usual > 0 else 1.0) * max(0.0, likeness)

    def _learn(self, own: float, confidence: float) -> None:
        """Renew what is usual and what the target looks like, from the tracker's own confidence and the session's."""
        seen = self.tracker.appearance
        if seen is None or self._recent is None:
            return
        low, high = self.thresholds.occluded_below, self.thresholds.tracking_above
        trust = 1.0 if confidence >= high else (confidence - low) / (high - low)
        self._usual = own if self._usual is None else self._usual + USUAL_RENEWAL * trust * (own - self._usual)
        if self._target.state is State.TRACKING:
            mixed = self._recent + RENEWAL * trust * (seen - self._recent)
            self._recent = mixed / max(float(np.linalg.norm(mixed)), 1e-6)
        else:
            self._recent = seen

    def _see(self, box: Box, confidence: float, time: float) -> None:
        if self._target.state is State.TRACKING:
            self._motion.see(box, time)
        else:
            self._motion = Motion(box, time)
            self._whole = 0.0
        self._target = self._target._replace(state=State.TRACKING, box=box, confidence=confidence)

    def _consider(self, found: Box, confidence: float) -> None:
        if confidence >= self.thresholds.tracking_above:
            self._candidate, self._confirmed = found, self._confirmed + 1
        else:
            self._candidate, self._confirmed = None, 0

    def _next_place(self, time: float, width: int, height: int) -> Box:
        if self._target.state is State.OCCLUDED:
            self._at_glimpse = self._glimpse is not None and not self._at_glimpse
            return self._glimpse if self._at_glimpse else self._motion.predict(time, width, height)
        if self._searched != (width, height):
            self._searched, self._places = (width, height), places(self._motion.box, width, height)
        return next(self._places)

    def _in_view(self, box: Box, width: int, height: int) -> bool:
        """Whether enough of the target is left in the image, now that it is in `box`."""
        inside = intersection(box, Box(0, 0, width, height))
        at_border = min(box.x, box.y, width - box.x - box.w, height - box.y - box.h) < 1
        self._whole = max(inside, self._whole) if at_border else inside
        return inside >= IN_VIEW * self._whole
