"""What a controller hears when there is no image to answer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rclpy.clock import Clock, ClockType
from std_msgs.msg import Header

from sot_ros.geometry import Box
from sot_ros.node.frames import Frame
from sot_ros.session import State, Target

if TYPE_CHECKING:
    from sot_ros.node.tracker_node import TrackerNode

REPEAT_S = 1.0
CHECK_S = 0.1


class Silence:
    """Publishes STALE when no image was answered for `stale_after` seconds, and IDLE once when the node is deactivated.

    A box would otherwise stay a controller's last word from us when the camera, the network or the tracker stops. The
    clock is the steady one, for a dead camera stops the others' stamps too, and a paused bag the time itself.
    """

    def __init__(self, node: TrackerNode):
        self._node = node
        self._last: tuple[Header, list[Target]] | None = None
        self._said_at = 0.0
        self._timer = node.create_timer(
            CHECK_S, self._check, callback_group=node.reentrant, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    def answer(self, frame: Frame, targets: list[Target]) -> None:
        # Of a target that was stopped beside others, IDLE was its last word.
        self._last = frame.message.header, [t for t in targets if t.state is not State.IDLE] or targets[-1:]
        self._said_at = 0.0

    def close(self) -> None:
        self._node.destroy_timer(self._timer)
        if self._last:
            self._say(State.IDLE, nowhere=True)

    def _check(self) -> None:
        now = time.monotonic()
        if self._last and self._node.stale and now - self._said_at >= REPEAT_S:
            self._said_at = now
            self._say(State.STALE)

    def _say(self, state: State, nowhere: bool = False) -> None:
        header, targets = self._last
        nothing = Box(0, 0, 0, 0)
        said = [Target(state, t.target_id, nothing if nowhere else t.box, 0.0) for t in targets]
        self._node.publish_boxes(header, said)
