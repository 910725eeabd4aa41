"""Every way a template or search region is cut out of a frame, and how a box found in it goes back to the frame."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from sot_ros.geometry import Box


def cut(image: np.ndarray, x: int, y: int, side: int, size: int, border: Sequence[float]) -> np.ndarray:
    """The square of `side` pixels whose top-left corner is (x, y), resized to `size` pixels.

    Takes an (H, W, 3) uint8 image and returns (size, size, 3). What lies outside the image has the colour `border`.
    """
    height, width = image.shape[:2]
    left, right = np.clip((x, x + side), 0, width)
    top, bottom = np.clip((y, y + side), 0, height)
    inside = image[top:bottom, left:right]
    if inside.shape[:2] != (side, side):
        patch = np.full((side, side, 3), np.rint(border), dtype=np.uint8)
        patch[top - y : bottom - y, left - x : right - x] = inside
        inside = patch
    return cv2.resize(inside, (size, size), interpolation=cv2.INTER_LINEAR)


def siamfc_crop(
    image: np.ndarray, center: tuple[float, float], side: float, size: int, border: Sequence[float]
) -> np.ndarray:
    """The region of `side` pixels centred on the pixel `center`, as SiamFC cuts it, resized to (size, size, 3).

    Source: `crop_and_resize` in huanglianghua/siamfc-pytorch.
    """
    side = max(1, round(side))
    x, y = (round(c - (side - 1) / 2) for c in center)
    return cut(image, x, y, side, size, border)


def stark_crop(image: np.ndarray, box: Box, factor: float, size: int) -> tuple[np.ndarray, float]:
    """The region `factor` times as large as the box, as STARK, OSTrack and SimTrack cut it, padded with black.

    Returns the (size, size, 3) patch and its scale: patch pixels for one image pixel. The last row and column
    of the image never enter, because `sample_target` pads by one pixel too many on those two sides and the
    published weights were trained with that.
    """
    side = max(1, math.ceil(math.sqrt(box.w * box.h) * factor))
    cx, cy = box.center
    x, y = round(cx - side / 2), round(cy - side / 2)
    return cut(image[:-1, :-1], x, y, side, size, (0, 0, 0)), size / side


def stark_uncrop(cx: float, cy: float, w: float, h: float, previous: Box, size: int, scale: float) -> Box:
    """A box found in a `stark_crop` of `size` pixels around `previous`, in image pixels.

    cx, cy, w, h are shares of the crop's side, 0..1. The unrounded centre of `previous` counts as the middle of
    the crop, up to half a pixel off from where it was cut, as upstream's `map_box_back` has it.
    """
    side = size / scale
    px, py = previous.center
    return Box.from_center(px + (cx - 0.5) * side, py + (cy - 0.5) * side, w * side, h * side)
