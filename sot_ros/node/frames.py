"""Image messages in, RGB arrays out.

This is a table over cv2.cvtColor, and not cv_bridge, because pip installations have no cv_bridge and the one of a
distribution may be built against an older NumPy than torch's. rosbags-image, its stand-in on PyPI, ignores `step`.
"""

from __future__ import annotations

import time
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image


class Encoding(NamedTuple):
    """How a pixel lies in memory, and the conversion to RGB; None where it is RGB already."""

    depth: str
    channels: int
    to_rgb: int | None


# OpenCV names a Bayer pattern after its second row, ROS after its first: RGGB is OpenCV's BG.
ENCODINGS: dict[str, Encoding] = {
    "rgb8": Encoding("u1", 3, None),
    "bgr8": Encoding("u1", 3, cv2.COLOR_BGR2RGB),
    "rgba8": Encoding("u1", 4, cv2.COLOR_RGBA2RGB),
    "bgra8": Encoding("u1", 4, cv2.COLOR_BGRA2RGB),
    "mono8": Encoding("u1", 1, cv2.COLOR_GRAY2RGB),
    "mono16": Encoding("u2", 1, cv2.COLOR_GRAY2RGB),
    "bayer_rggb8": Encoding("u1", 1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": Encoding("u1", 1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": Encoding("u1", 1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": Encoding("u1", 1, cv2.COLOR_BayerGB2RGB),
    "yuv422": Encoding("u1", 2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": Encoding("u1", 2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": Encoding("u1", 2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": Encoding("u1", 2, cv2.COLOR_YUV2RGB_YUY2),
    # What cv_bridge calls an OpenCV image by default.
    "8UC1": Encoding("u1", 1, cv2.COLOR_GRAY2RGB),
    "8UC3": Encoding("u1", 3, cv2.COLOR_BGR2RGB),
    "8UC4": Encoding("u1", 4, cv2.COLOR_BGRA2RGB),
}


class Frame:
    """One image message, decoded when its pixels are first asked for, and only then."""

    def __init__(self, message: Image | CompressedImage, stamp: float):
        self.message = message
        self.stamp = stamp
        """When the image was taken, in seconds; where the camera does not say, when it arrived by the node's clock."""
        self.arrived = time.monotonic()
        """Seconds, to measure how long the answer took."""
        self.number = 0
        """Given by the history: 1 for the first frame, then 2, ..."""

    @cached_property
    def image(self) -> np.ndarray:
        """RGB uint8 (H, W, 3). Raises ValueError for a message that is no image."""
        if isinstance(self.message, CompressedImage):
            return decompress(self.message)
        return to_rgb(self.message)

    def forget_image(self) -> None:
        """Keep only the message. Whoever asks for the pixels again gets them decoded again."""
        self.__dict__.pop("image", None)


def check(message: Image | CompressedImage) -> None:
    """Raise ValueError with one line unless the message looks like an image that can be decoded. Costs nothing."""
    if isinstance(message, CompressedImage):
        if not message.data:
            raise ValueError("compressed image refused: it holds no data")
        return
    width, height, name = message.width, message.height, message.encoding
    if name not in ENCODINGS:
        raise ValueError(f"image encoding '{name}' refused: accepted are {', '.join(ENCODINGS)}")
    if width == 0 or height == 0:
        raise ValueError(f"image of {width}x{height} pixels refused: it is empty")
    encoding = ENCODINGS[name]
    if encoding.channels == 2 and width % 2:
        raise ValueError(f"image of {width}x{height} pixels refused: {name} has an even width")
    row = width * encoding.channels * np.dtype(encoding.depth).itemsize
    if message.step < row:
        raise ValueError(f"image step {message.step} refused: {width} pixels of {name} take {row} bytes or more")
    if message.step * height != len(message.data):
        raise ValueError(
            f"image of {len(message.data)} bytes refused: "
            f"its step {message.step} times height {height} makes {message.step * height}"
        )


def to_rgb(message: Image) -> np.ndarray:
    """RGB uint8 (H, W, 3) of a sensor_msgs/Image in one of ENCODINGS; 16 bits are scaled down to 8.

    Raises ValueError with one line for a message that contradicts itself. The array may share the message's memory.
    """
    check(message)
    depth, channels, conversion = ENCODINGS[message.encoding]
    dtype = np.dtype(depth).newbyteorder(">" if message.is_bigendian else "<")
    pixels = np.ndarray(
        (message.height, message.width, channels),
        dtype,
        buffer=message.data,
        strides=(message.step, channels * dtype.itemsize, dtype.itemsize),
    )
    if dtype.itemsize == 2:
        # As cv_bridge does: the full range of 16 bits onto that of 8, rounded.
        pixels = cv2.convertScaleAbs(pixels.astype(np.uint16), alpha=255 / 65535)
    return np.ascontiguousarray(pixels) if conversion is None else cv2.cvtColor(pixels, conversion)


def decompress(message: CompressedImage) -> np.ndarray:
    """RGB uint8 (H, W, 3) of a sensor_msgs/CompressedImage; raises ValueError for data that is no picture."""
    check(message)
    bgr = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ValueError(
            f"compressed image of format '{message.format}' refused: jpeg, png and what else OpenCV reads is accepted"
        )
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
