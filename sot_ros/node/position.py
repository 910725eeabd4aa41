"""Where the target is in space, by a depth image that is registered to the camera's, and how fast it moves."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from geometry_msgs.msg import Point, PointStamped, Vector3, Vector3Stamped
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from sot_ros.cameras import Camera
from sot_ros.depth import distance_in_box
from sot_ros.geometry import Box
from sot_ros.node.frames import Frame
from sot_ros.node.messages import one_line, seconds
from sot_ros.node.transforms import Transforms, package
from sot_ros.session import State, Target

if TYPE_CHECKING:
    from sot_ros.node.tracker_node import TrackerNode

DEPTHS = {"16UC1": ("u2", 0.001), "mono16": ("u2", 0.001), "32FC1": ("f4", 1.0)}
"""Encodings of depth images (REP 118): the type of a pixel, and its unit in metres."""
HELD = 10
"""Answers and depth images that wait for each other."""
SPAN_S, LEAST_SPAN_S = 0.5, 0.1
"""The velocity is that of the positions in these last seconds, once they span the least."""
LOOPED_S = 1.0


class Seen(NamedTuple):
    """A target that waits for the depth image of its stamp."""

    header: Header
    target: Target
    camera: Camera


class Position:
    """Publishes position, and velocity where velocity_frame is given, while TRACKING: what is OCCLUDED is not measured.

    An answer and a depth image belong together if their stamps differ by less than depth_slop, whichever comes first.
    """

    def __init__(self, node: TrackerNode):
        self._node = node
        self._subscription = self._transforms = None
        if not node.value("use_depth"):
            return
        try:
            import message_filters
        except ImportError:
            raise ValueError(f"message_filters is not installed: {package('message-filters')}") from None
        self._message_filters = message_filters
        self._newest = 0.0
        self._track: deque[tuple[float, np.ndarray]] = deque()
        self._waiting: deque[tuple[Header, np.ndarray]] = deque(maxlen=HELD)
        self._target_id = 0
        self._synchronize()
        self._position = node.advertise(PointStamped, "position")
        self._velocity = node.advertise(Vector3Stamped, "velocity")
        qos = QoSProfile(depth=1, reliability=qos_profile_sensor_data.reliability)
        self._subscription = node.subscribe(Image, "depth", lambda image: self._depths.signalMessage(image), qos)

    def answer(self, frame: Frame, targets: list[Target]) -> None:
        target = targets[0]
        if self._subscription is None or target.state is not State.TRACKING:
            return
        camera = self._node.calibration.camera(frame)
        if camera is None:
            raise ValueError("no position: no camera_info has arrived yet")
        if frame.stamp < self._newest - LOOPED_S:
            self._synchronize()  # else what waits would be newer than all to come, and never leave
        self._newest = frame.stamp
        self._answers.signalMessage(Seen(frame.message.header, target, camera))

    def close(self) -> None:
        if self._subscription is None:
            return
        self._node.destroy_subscription(self._subscription)
        self._node.destroy_publisher(self._position)
        self._node.destroy_publisher(self._velocity)
        if self._transforms is not None:
            self._transforms.close()

    def _synchronize(self) -> None:
        """Wait for pairs from now on."""
        self._answers, self._depths = (self._message_filters.SimpleFilter() for _ in range(2))
        synchronizer = self._message_filters.ApproximateTimeSynchronizer(
            [self._answers, self._depths], HELD, self._node.value("depth_slop")
        )
        synchronizer.registerCallback(self._locate)

    def _locate(self, seen: Seen, image: Image) -> None:
        # message_filters would never let go of its lock if this raised.
        try:
            self._publish(seen, image)
        except Exception as error:
            self._node.get_logger().error(f"Position: {one_line(error)}", throttle_duration_sec=1.0)

    def _publish(self, seen: Seen, image: Image) -> None:
        header, target, camera = seen
        distance = target_distance(image, target.box, camera.width, camera.height)
        ray = camera.ray(*target.box.center)
        if distance is None or ray[2] <= 0:
            return
        point = distance / ray[2] * ray
        x, y, z = map(float, point)
        self._position.publish(PointStamped(header=header, point=Point(x=x, y=y, z=z)))
        frame_id = self._node.value("velocity_frame")
        if frame_id:
            if target.target_id != self._target_id:
                self._track.clear()
                self._waiting.clear()
                self._target_id = target.target_id
            self._waiting.append((header, point))
            self._follow(frame_id)

    def _follow(self, frame_id: str) -> None:
        """Take what waits for its transform into the track, and publish the velocity of the newest."""
        while self._waiting:
            header, point = self._waiting[0]
            if header.frame_id != frame_id:
                self._transforms = self._transforms or Transforms(self._node)
                try:
                    point = self._transforms.move(point, header.frame_id, frame_id, header.stamp)
                except ValueError:
                    if len(self._waiting) == HELD:
                        raise
                    return  # it may only be late
            self._waiting.popleft()
            now = seconds(header.stamp)
            if self._track and now <= self._track[-1][0]:
                self._track.clear()
            self._track.append((now, point))
            while now - self._track[0][0] > SPAN_S:
                self._track.popleft()
            velocity = fit_velocity(self._track)
            if velocity is not None:
                x, y, z = map(float, velocity)
                stamped = Header(stamp=header.stamp, frame_id=frame_id)
                self._velocity.publish(Vector3Stamped(header=stamped, vector=Vector3(x=x, y=y, z=z)))


def fit_velocity(track: deque[tuple[float, np.ndarray]]) -> np.ndarray | None:
    """The velocity (3,) of points at times in seconds, by least squares; None where they are too few or too close."""
    times = np.array([time for time, _ in track])
    if len(track) < 3 or times[-1] - times[0] < LEAST_SPAN_S:
        return None
    times -= times.mean()
    points = np.array([point for _, point in track])
    return times @ (points - points.mean(0)) / (times @ times)


def target_distance(image: Image, box: Box, width: int, height: int) -> float | None:
    """Metres along the optical axis to what is in the box of a camera image of width x height pixels.

    image   the depth image, registered to the camera's; it may be smaller or larger, with the same view

    None where nothing was measured in the box. Raises ValueError with one line for an image that is not accepted.
    """
    if image.encoding not in DEPTHS:
        raise ValueError(f"depth image of encoding '{image.encoding}' refused: {', '.join(DEPTHS)} are accepted")
    depth, unit = DEPTHS[image.encoding]
    dtype = np.dtype(depth).newbyteorder(">" if image.is_bigendian else "<")
    if image.step < image.width * dtype.itemsize or len(image.data) != image.step * image.height:
        raise ValueError(
            f"depth image of {image.width}x{image.height} pixels with step {image.step} and {len(image.data)} bytes "
            "refused: it contradicts itself"
        )
    if abs(image.width * height - image.height * width) > max(width, height):  # off by more than rounding
        raise ValueError(
            f"depth image of {image.width}x{image.height} pixels refused: it must be registered to the "
            f"{width}x{height} image and have its shape"
        )
    pixels = np.ndarray((image.height, image.width), dtype, image.data, strides=(image.step, dtype.itemsize))
    across, down = image.width / width, image.height / height
    distance = distance_in_box(pixels, Box(box.x * across, box.y * down, box.w * across, box.h * down))
    return None if distance is None else distance * unit
