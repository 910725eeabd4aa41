"""What the node says."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from sot_ros.msg import TrackedBox

if TYPE_CHECKING:  # for cameras and controllers, which need no torch
    from sot_ros.session import Target


def seconds(stamp: Time) -> float:
    """A stamp in seconds."""
    return stamp.sec + stamp.nanosec * 1e-9


def tracked_box(header: Header, target: Target) -> TrackedBox:
    """The answer to the image that came with `header`."""
    x, y, width, height = target.box
    return TrackedBox(
        header=header,
        state=int(target.state),
        target_id=target.target_id,
        x=float(x),
        y=float(y),
        width=float(width),
        height=float(height),
        confidence=float(target.confidence),
    )


def rgb_image(header: Header, image: np.ndarray) -> Image:
    """A sensor_msgs/Image of encoding rgb8 from an (H, W, 3) uint8 array."""
    height, width = image.shape[:2]
    # Of all types, rclpy takes array.array without looking at every single byte.
    data = array("B")
    data.frombytes(np.ascontiguousarray(image).data.cast("B"))
    return Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width, data=data)


def one_line(error: Exception) -> str:
    """An exception as a line for the log. Ours say all themselves; of others, the type belongs to it."""
    text = " ".join(str(error).split())
    return text if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {text}"
