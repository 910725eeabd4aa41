"""The calibration of the camera that the images come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo

from sot_ros.cameras import Camera, camera_from_info
from sot_ros.node.frames import Frame

if TYPE_CHECKING:
    from sot_ros.node.tracker_node import TrackerNode


class Calibration:
    """Listens to camera_info. Features share the node's one."""

    def __init__(self, node: TrackerNode):
        self._node = node
        self._info: CameraInfo | None = None
        # Some cameras publish it best-effort, like their images; a best-effort subscription takes both.
        qos = QoSProfile(depth=1, reliability=qos_profile_sensor_data.reliability)
        node.subscribe(CameraInfo, "camera_info", self._keep, qos)

    def camera(self, frame: Frame) -> Camera | None:
        """The camera that took the frame; None as long as no camera_info has arrived.

        Raises ValueError with one line for a calibration that cannot be used, or is that of images of another size.
        """
        if self._info is None:
            return None
        camera = camera_from_info(self._info, self._node.value("rectified"))
        height, width = frame.image.shape[:2]
        if (camera.width, camera.height) != (width, height):
            raise ValueError(
                f"camera_info of {camera.width}x{camera.height} pixels refused: the images have {width}x{height}"
            )
        return camera

    def _keep(self, message: CameraInfo) -> None:
        self._info = message
