"""Targets from a detector, and the target as a detection, in vision_msgs (its API since Humble)."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

from std_msgs.msg import Header

from sot_ros.geometry import Box
from sot_ros.node.frames import Frame
from sot_ros.node.messages import seconds
from sot_ros.node.transforms import package
from sot_ros.session import State, Target

if TYPE_CHECKING:
    from sot_ros.node.tracker_node import TrackerNode


class Detections:
    """Publishes detection for each target that is TRACKING or OCCLUDED. With use_detections, it listens to a detector.

    While IDLE, the detection of the best score starts a target, on the image that it was found in. While a target is
    OCCLUDED or LOST, it is taken back where one of them looks like it.
    """

    def __init__(self, node: TrackerNode):
        self._node = node
        self._lock = threading.Lock()
        self._suggested: tuple[Header, list[Box]] | None = None
        self._publisher = self._subscription = None
        try:
            from vision_msgs import msg
        except ImportError:
            if node.value("use_detections"):
                raise ValueError(f"vision_msgs is not installed: {package('vision-msgs')}") from None
            return  # nobody asked for it
        self._msg = msg
        self._publisher = node.advertise(msg.Detection2D, "detection")
        if node.value("use_detections"):
            self._subscription = node.subscribe(msg.Detection2DArray, "detections", self._take)

    def answer(self, frame: Frame, targets: list[Target]) -> None:
        for target in targets:
            if self._publisher and target.state in (State.TRACKING, State.OCCLUDED):
                class_id = self._node.value("detection_class")
                self._publisher.publish(detection(self._msg, frame.message.header, target, class_id))
        with self._lock:
            suggested, self._suggested = self._suggested, None
        if suggested and any(target.state in (State.OCCLUDED, State.LOST) for target in targets):
            header, boxes = suggested
            seen_in = self._node.worker.nearest(seconds(header.stamp))
            self._node.worker.suggest(seen_in.image, boxes)

    def close(self) -> None:
        if self._subscription:
            self._node.destroy_subscription(self._subscription)
        if self._publisher:
            self._node.destroy_publisher(self._publisher)

    def _take(self, message: Any) -> None:
        boxes = boxes_of(message, self._node.value("detection_class"), self._node.value("detection_score"))
        if not boxes:
            return
        worker = self._node.worker
        if worker and worker.targets[0].state is State.IDLE:
            self._node.start(boxes[0], message.header)
        with self._lock:
            self._suggested = message.header, boxes


def boxes_of(message: Any, class_id: str, least_score: float) -> list[Box]:
    """The boxes of a vision_msgs/Detection2DArray of one class, empty for any, and of a score or more; the best first.

    A box that is turned gets the upright one around it. Those without area or with a number that is none are left out.
    """
    scored = []
    for found in message.detections:
        hypotheses = [result.hypothesis for result in found.results]
        scores = [h.score for h in hypotheses if class_id in ("", h.class_id) and h.score >= least_score]
        center, w, h = found.bbox.center, found.bbox.size_x, found.bbox.size_y
        cosine, sine = abs(math.cos(center.theta)), abs(math.sin(center.theta))
        upright = w * cosine + h * sine, w * sine + h * cosine
        box = Box.from_center(center.position.x, center.position.y, *upright)
        if scores and all(map(math.isfinite, box)) and box.w > 0 and box.h > 0:
            scored.append((max(scores), box))
    return [box for _, box in sorted(scored, key=lambda pair: -pair[0])]


def detection(msg: Any, header: Header, target: Target, class_id: str) -> Any:
    """The target as a Detection2D: its confidence is the score, its target_id the id. `msg` is vision_msgs.msg."""
    message = msg.Detection2D(header=header, id=str(target.target_id))
    result = msg.ObjectHypothesisWithPose()
    result.hypothesis.class_id, result.hypothesis.score = class_id, float(target.confidence)
    message.results = [result]
    message.bbox.center.position.x, message.bbox.center.position.y = map(float, target.box.center)
    message.bbox.size_x, message.bbox.size_y = float(target.box.w), float(target.box.h)
    return message
