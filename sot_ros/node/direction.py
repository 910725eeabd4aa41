"""Where the target is seen: as a ray, and as the angles that a gimbal is off by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Vector3, Vector3Stamped
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker

from sot_ros.cameras import pan_and_tilt
from sot_ros.node.frames import Frame
from sot_ros.session import State, Target

if TYPE_CHECKING:
    from sot_ros.node.tracker_node import TrackerNode


class Direction:
    """Publishes direction and angular_error while TRACKING or OCCLUDED, once camera_info is known; for RViz, an arrow.

    direction       the unit vector to the middle of the box, in the camera's optical frame (x right, y down, z forward)
    angular_error   by how much the camera must turn about its axes for the target to be in the middle, in radians: x is
                    the tilt, upwards; y is the pan, to the right, before the tilt; z is 0
    """

    def __init__(self, node: TrackerNode):
        self._node = node
        self._direction = node.advertise(Vector3Stamped, "direction")
        self._angular_error = node.advertise(Vector3Stamped, "angular_error")
        self._markers = node.advertise(Marker, "markers")

    def answer(self, frame: Frame, targets: list[Target]) -> None:
        target = targets[0]
        if target.state not in (State.TRACKING, State.OCCLUDED):
            return
        camera = self._node.calibration.camera(frame)
        if camera is None:
            return
        header, ray = frame.message.header, camera.ray(*target.box.center)
        x, y, z = map(float, ray)
        pan, tilt = pan_and_tilt(ray)
        self._direction.publish(Vector3Stamped(header=header, vector=Vector3(x=x, y=y, z=z)))
        self._angular_error.publish(Vector3Stamped(header=header, vector=Vector3(x=tilt, y=pan)))
        if self._markers.get_subscription_count() > 0:
            arrow = Marker(header=header, ns="direction", type=Marker.ARROW, lifetime=Duration(sec=1))
            arrow.points = [Point(), Point(x=x, y=y, z=z)]
            arrow.pose.orientation.w = 1.0
            arrow.scale = Vector3(x=0.01, y=0.03, z=0.05)  # shaft, head, length of the head
            arrow.color = ColorRGBA(r=1.0, g=0.7, a=1.0)
            self._markers.publish(arrow)

    def close(self) -> None:
        for publisher in (self._direction, self._angular_error, self._markers):
            self._node.destroy_publisher(publisher)
