"""The frame with boxes, state, confidence and rate drawn on it, for people."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from sot_ros.drawing import draw, draw_box
from sot_ros.node.frames import Frame
from sot_ros.node.messages import rgb_image
from sot_ros.session import State, Target

if TYPE_CHECKING:
    from sot_ros.node.tracker_node import TrackerNode


class DebugImage:
    """Publishes debug_image, at most `debug_rate` times a second, while somebody subscribes to it.

    In a thread of its own, so that no box waits for a picture.
    """

    def __init__(self, node: TrackerNode):
        self._node = node
        self._publisher = node.advertise(Image, "debug_image", QoSProfile(depth=1))
        self._drawn_at = 0.0
        self._thread = ThreadPoolExecutor(1, "debug_image")
        self._drawing: Future | None = None

    def answer(self, frame: Frame, targets: list[Target]) -> None:
        now = time.monotonic()
        wanted = self._node.value("debug") and self._publisher.get_subscription_count() > 0
        if not wanted or now - self._drawn_at < 1 / self._node.value("debug_rate"):
            return
        if self._drawing is None or self._drawing.done():
            self._drawn_at = now
            self._drawing = self._thread.submit(self._node.attempt, self, self._draw, frame, targets)

    def _draw(self, frame: Frame, targets: list[Target]) -> None:
        target, *others = targets
        box = None if target.state is State.IDLE else target.box
        drawn = draw(frame.image, box, target.state.name, target.confidence, self._node.rate)
        for each in targets if others else ():  # a number tells apart what is not alone
            if each.state is not State.IDLE:
                draw_box(drawn, each.box, each.state.name, str(each.target_id))
        self._publisher.publish(rgb_image(frame.message.header, drawn))
        frame.forget_image()

    def close(self) -> None:
        self._thread.shutdown()
        self._node.destroy_publisher(self._publisher)
