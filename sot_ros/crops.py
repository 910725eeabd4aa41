"""Every way a template or search region is cut out of a frame, and how a box found in it goes back to the frame."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from sot_ros.geometry import Box


def cut(image: np.ndarray, x: int, y: int, side: int, size: int, border: Sequence[float]) -> np.ndarray:
    """The square of `side` pixels whose top-left corner is (x, y), resized to `size` pixels.

    Takes an image, (H, W, 3) or (H, W), and returns (size, size, 3) or (size, size) of its type. What lies outside the
    image has the colour `border`.
    """
    height, width = image.shape[:2]
    left, right = np.clip((x, x + side), 0, width)
    top, bottom = np.clip((y, y + side), 0, height)
    inside = image[top:bottom, left:right]
    if inside.shape[:2] != (side, side):
        patch = np.full((side, side, *image.shape[2:]), np.rint(border), dtype=image.dtype)
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
    x, y, side = _stark_square(box, factor)
    return cut(image[:-1, :-1], x, y, side, size, (0, 0, 0)), size / side


def stark_padding(image: np.ndarray, box: Box, factor: float, size: int) -> np.ndarray:
    """Which pixels of the `stark_crop` with the same arguments have padding in them: (size, size) bool.

    Pixels that resizing blends from image and padding count as padding. Source: `att_mask` in STARK's `sample_target`.
    """
    x, y, side = _stark_square(box, factor)
    inside = np.broadcast_to(0.0, image.shape[:2])[:-1, :-1]
    return cut(inside, x, y, side, size, 1.0).astype(bool)


def _stark_square(box: Box, factor: float) -> tuple[int, int, int]:
    """Left, top and side, in whole pixels, of the square that a `stark_crop` shows."""
    side = max(1, math.ceil(math.sqrt(box.w * box.h) * factor))
    cx, cy = box.center
    return round(cx - side / 2), round(cy - side / 2), side


def stark_uncrop(cx: float, cy: float, w: float, h: float, previous: Box, size: int, scale: float) -> Box:
    """A box found in a crop of `size` pixels around `previous`, in image pixels.

    cx, cy, w, h are shares of the crop's side, 0..1. The unrounded centre of `previous` counts as the middle of
    the crop. A `stark_crop` was cut up to half a pixel off from there, as STARK's `map_box_back` has it.
    """
    side = size / scale
    px, py = previous.center
    return Box.from_center(px + (cx - 0.5) * side, py + (cy - 0.5) * side, w * side, h * side)


STEPS = 32
"""In each pixel, at which a `smooth_crop` may begin and end. OpenCV interpolates in as many."""


def smooth_crop(image: np.ndarray, box: Box, factor: float, size: int) -> tuple[np.ndarray, float]:
    """The region of a `stark_crop`, cut at fractions of a pixel: what changes little in `box` changes little in it.

    Returns the (size, size, 3) patch, padded with black, and its scale: patch pixels for one image pixel. What
    changes in `box` by rounding alone is mostly rounded off again, and does not add up from frame to frame.
    """
    side = max(1, round(math.sqrt(box.w * box.h) * factor * STEPS)) / STEPS
    scale = size / side
    left, top = (round((c - side / 2) * STEPS) / STEPS for c in box.center)
    return warp(image, np.array([[scale, 0, -left * scale], [0, scale, -top * scale]]), size), scale


def warp(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """The (size, size, C) patch that `matrix` (2, 3) takes `image` to, padded with black.

    Both count from the corners of pixels: (0.5, 0.5) is the middle of the first one.
    """
    # OpenCV counts from the middles of pixels.
    centred = matrix.copy()
    centred[:, 2] += matrix[:, :2].sum(1) * 0.5 - 0.5
    return cv2.warpAffine(image, centred, (size, size), flags=cv2.INTER_LINEAR)


def swintrack_crop(
    image: np.ndarray, box: Box, factor: float, size: int, border: Sequence[float]
) -> tuple[np.ndarray, float]:
    """The region around the box as SwinTrack cuts it, on the colour `border`.

    Its area is that of the box with width and height grown by `factor - 1` times their mean. Returns the float32
    (size, size, 3) patch in 0..255 and its scale: patch pixels for one image pixel. What of the image is seen, and
    where in the patch it comes to lie, are cut to whole pixels on their own, and one is stretched over the other from
    the middle of the first pixel to that of the last. Source: `torch_scale_and_translate_half_pixel_offset` upstream.
    """
    growth = (factor - 1) * (box.w + box.h) / 2
    scale = math.sqrt(size * size / ((box.w + growth) * (box.h + growth)))
    seen, filled = [], []
    for center, length in zip(box.center, (image.shape[1], image.shape[0]), strict=True):
        first = max((0 - center) * scale + size / 2, 0.5)
        last = min((length - center) * scale + size / 2, size - 0.5)
        filled.append(slice(int(first), int(last) + 1))
        first, last = ((end - size / 2) / scale + center for end in (first, last))
        seen.append(slice(int(first), int(last) + 1))
    patch = np.full((size, size, 3), border, dtype=np.float32)
    width, height = (part.stop - part.start for part in filled)
    if width > 1 and height > 1:
        region = torch.from_numpy(image[seen[1], seen[0]].astype(np.float32)).permute(2, 0, 1)[None]
        stretched = F.interpolate(region, (height, width), mode="bilinear", align_corners=True)
        patch[filled[1], filled[0]] = stretched[0].permute(1, 2, 0).numpy()
    return patch, scale
