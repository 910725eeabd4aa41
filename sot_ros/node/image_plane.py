"""The live image as something that RViz's Publish Point tool can hit, and the box that two clicks on it make."""

from __future__ import annotations

import contextlib
import threading
import time
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from geometry_msgs.msg import Point, PointStamped, Vector3
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, UVCoordinate

from sot_ros.cameras import Camera, default_camera
from sot_ros.drawing import COLORS
from sot_ros.geometry import Box
from sot_ros.node.frames import Frame
from sot_ros.node.transforms import Transforms
from sot_ros.session import State, Target

if TYPE_CHECKING:
    from sot_ros.node.tracker_node import TrackerNode

MOST_WIDTH = 640
"""Wider images are shrunk: RViz unpacks them in the thread that draws."""
TRIANGLES = ((0, 0), (0, 1), (1, 0), (1, 0), (0, 1), (1, 1))
"""Corners of the image, in shares of width and height. Both triangles face the camera, from where RViz lights them."""
PATIENCE_S = 0.5
"""RViz may know a transform a little earlier than we do."""
CLICK_COLOR = (255, 255, 0)


class Plane(NamedTuple):
    """An image as it was shown: a plane at one metre in the camera's optical frame."""

    header: Header
    stamp: float
    camera: Camera

    def point(self, u: float, v: float) -> Point:
        """Where a pixel is on the plane."""
        inward = np.linalg.solve(self.camera.matrix, (u, v, 1.0))
        x, y, z = map(float, self.camera.rotation @ inward)
        return Point(x=x, y=y, z=z)

    def pixel(self, point: np.ndarray) -> tuple[float, float]:
        """The pixel (u, v) that a point (3,) in the camera's frame covers; ValueError where it covers none."""
        u, v = self.camera.project(point)
        width, height = self.camera.width, self.camera.height
        if not (-1 <= u <= width + 1 and -1 <= v <= height + 1):
            raise ValueError(f"pixel ({u:.0f}, {v:.0f}) is outside the {width}x{height} image")
        return min(max(0.0, u), width), min(max(0.0, v), height)


class ImagePlane:
    """Publishes image_plane and markers while somebody subscribes to image_plane, and starts targets by clicked_point.

    Two clicks are two opposite corners. From the first to the second the image stands still, and the box is started on
    that very image. The plane is that of a pinhole: with the focal length and principal point of camera_info, without
    its distortion; without a camera_info that can be used, of `default_camera`.
    """

    def __init__(self, node: TrackerNode):
        self._node = node
        self._lock = threading.Lock()
        self._shown: Plane | None = None
        self._shown_at = 0.0
        self._watched = False
        self._number = 0
        self._corner: tuple[float, float] | None = None
        self._transforms: Transforms | None = None
        self._images = node.advertise(Marker, "image_plane")
        self._markers = node.advertise(Marker, "markers")
        self._clicks = node.subscribe(PointStamped, "clicked_point", self._click, QoSProfile(depth=10))

    def answer(self, frame: Frame, targets: list[Target]) -> None:
        target = targets[0]
        watched = self._images.get_subscription_count() > 0
        self._look(watched)
        now = time.monotonic()
        with self._lock:
            if self._corner and self._node.worker.nearest(self._shown.stamp).stamp != self._shown.stamp:
                self._node.get_logger().warning(
                    "first click forgotten: its image is no longer held, see history_s and history_mb"
                )
                self._forget_corner()
            if self._corner or not watched or now - self._shown_at < 1 / self._node.value("image_plane_rate"):
                return
            self._shown_at = now
            self._shown = Plane(frame.message.header, frame.stamp, self._camera(frame))
            for marker in self._image_markers(frame.image):
                self._images.publish(marker)
            self._markers.publish(self._box_marker(target))

    def close(self) -> None:
        self._node.destroy_subscription(self._clicks)
        self._node.destroy_publisher(self._images)
        self._node.destroy_publisher(self._markers)
        self._look(False)

    def _camera(self, frame: Frame) -> Camera:
        camera = None
        with contextlib.suppress(ValueError):  # Direction says it
            camera = self._node.calibration.camera(frame)
        height, width = frame.image.shape[:2]
        return camera.without_lens() if camera else default_camera(width, height)

    def _look(self, watched: bool) -> None:
        """Listen to tf2 while somebody looks, for it takes time. Where it is missing, clicks say so that need it."""
        if watched and not self._watched:
            with contextlib.suppress(ValueError):
                self._transforms = Transforms(self._node)
        elif not watched and self._transforms is not None:
            self._transforms.close()
            self._transforms = None
        self._watched = watched

    # Clicks

    def _click(self, message: PointStamped) -> None:
        shown = self._shown
        try:
            if shown is None:
                raise ValueError("no image_plane was shown yet; add it to RViz as a Marker display")
            corner = shown.pixel(self._to_camera(message, shown.header))
            with self._lock:
                self._take(corner, shown)
        except ValueError as error:
            self._node.get_logger().error(f"click refused: {error}")

    def _take(self, corner: tuple[float, float], shown: Plane) -> None:
        self._shown = shown  # a newer one may have come meanwhile
        if self._corner is None:
            self._corner = corner
            self._markers.publish(self._corner_marker(*corner))
            return
        (u1, v1), (u2, v2) = self._corner, corner
        self._forget_corner()
        box = Box(min(u1, u2), min(v1, v2), abs(u2 - u1), abs(v2 - v1))
        if min(box.w, box.h) < 1:
            raise ValueError("it lies on a line with the first one, and they are to be opposite corners; begin again")
        self._node.start(box, self._shown.header)

    def _to_camera(self, message: PointStamped, header: Header) -> np.ndarray:
        """The clicked point in the camera's frame, as that lay when the image was taken: so does RViz show it."""
        point = np.array([message.point.x, message.point.y, message.point.z])
        source, target = message.header.frame_id.lstrip("/"), header.frame_id.lstrip("/")
        if source == target:
            return point
        transforms = self._transforms = self._transforms or Transforms(self._node)  # which says what to install
        return transforms.move(point, source, target, header.stamp, PATIENCE_S)

    def _forget_corner(self) -> None:
        self._corner = None
        self._markers.publish(Marker(header=self._shown.header, ns="first_click", action=Marker.DELETE))

    # Markers

    def _image_markers(self, image: np.ndarray) -> list[Marker]:
        """The image in a new marker, and the end of the one before.

        RViz (Humble to Kilted, TriangleListMarker::updateMaterial) multiplies each new texture of a marker with all
        that it had, and never frees the last one of a marker that goes. So each image gets a marker of its own, and
        each marker in the end a texture of one pixel.
        """
        height, width = image.shape[:2]
        if width > MOST_WIDTH:
            image = cv2.resize(image, (MOST_WIDTH, round(height * MOST_WIDTH / width)), interpolation=cv2.INTER_AREA)
        old, self._number = self._number, 1 - self._number
        end = self._marker("image", Marker.TRIANGLE_LIST, (0, 0, 0), old)
        end.action = Marker.DELETE
        return [self._textured(self._number, image), self._textured(old, np.zeros((1, 1, 3), np.uint8)), end]

    def _textured(self, number: int, image: np.ndarray) -> Marker:
        marker = self._marker("image", Marker.TRIANGLE_LIST, (255, 255, 255), number)
        marker.scale = Vector3(x=1.0, y=1.0, z=1.0)
        width, height = self._shown.camera.width, self._shown.camera.height
        marker.points = [self._shown.point(u * width, v * height) for u, v in TRIANGLES]
        marker.uv_coordinates = [UVCoordinate(u=float(u), v=float(v)) for u, v in TRIANGLES]
        marker.texture_resource = "embedded://image"
        _, jpeg = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 80))
        marker.texture = CompressedImage(header=marker.header, format="jpeg", data=array("B", jpeg.tobytes()))
        return marker

    def _box_marker(self, target: Target) -> Marker:
        """The target's box on the plane."""
        if target.state is State.IDLE:
            return Marker(header=self._shown.header, ns="target", action=Marker.DELETE)
        x, y, w, h = target.box
        corners = (x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)
        return self._line(Marker.LINE_STRIP, "target", COLORS[target.state.name], corners)

    def _corner_marker(self, u: float, v: float) -> Marker:
        """The outline that the box will have for sure: the edges that meet in the first click, across the image."""
        width, height = self._shown.camera.width, self._shown.camera.height
        edges = (u, 0), (u, height), (0, v), (width, v)
        return self._line(Marker.LINE_LIST, "first_click", CLICK_COLOR, edges)

    def _line(self, kind: int, ns: str, color: Sequence[int], pixels: Sequence[tuple[float, float]]) -> Marker:
        marker = self._marker(ns, kind, color)
        marker.scale.x = 3 / self._shown.camera.matrix[0, 0]  # three pixels wide
        for u, v in pixels:
            point = self._shown.point(u, v)
            # A little nearer than the image, for RViz to draw it in front.
            marker.points.append(Point(x=0.99 * point.x, y=0.99 * point.y, z=0.99 * point.z))
        return marker

    def _marker(self, ns: str, kind: int, color: Sequence[int], number: int = 0) -> Marker:
        marker = Marker(header=self._shown.header, ns=ns, id=number, type=kind)
        marker.pose.orientation.w = 1.0
        r, g, b = (value / 255 for value in color)
        marker.color = ColorRGBA(r=r, g=g, b=b, a=1.0)
        return marker
