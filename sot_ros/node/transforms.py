"""Points in other frames of the robot, by tf2."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Transform
from rclpy.duration import Duration
from rclpy.time import Time as RclpyTime

if TYPE_CHECKING:
    from sot_ros.node.tracker_node import TrackerNode


def package(name: str) -> str:
    """How to install a package of the user's ROS 2 distribution."""
    return f"sudo apt install ros-{os.environ.get('ROS_DISTRO', '$ROS_DISTRO')}-{name}"


class Transforms:
    """Listens to /tf and /tf_static. Raises ValueError with one line where tf2 is not installed."""

    def __init__(self, node: TrackerNode):
        try:
            import tf2_ros
        except ImportError:
            raise ValueError(f"tf2 is not installed: {package('tf2-ros-py')}") from None
        self._errors = tf2_ros.TransformException
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def move(self, point: np.ndarray, source: str, target: str, stamp: Time, patience_s: float = 0.0) -> np.ndarray:
        """A point (3,) of frame `source` in frame `target`, as they lay at `stamp`.

        Raises ValueError with one line where tf2 does not know that, also after waiting for it.
        """
        try:
            stamped = self._buffer.lookup_transform(
                target, source, RclpyTime.from_msg(stamp), Duration(seconds=patience_s)
            )
        except self._errors as error:
            raise ValueError(f"no transform from '{source}' to '{target}': {' '.join(str(error).split())}") from None
        return move(stamped.transform, point)

    def close(self) -> None:
        self._listener.unregister()


def move(transform: Transform, point: np.ndarray) -> np.ndarray:
    """What a geometry_msgs/Transform does to a point (3,)."""
    q, t = transform.rotation, transform.translation
    axis = np.array([q.x, q.y, q.z])
    twice = 2 * np.cross(axis, point)
    return point + q.w * twice + np.cross(axis, twice) + (t.x, t.y, t.z)
