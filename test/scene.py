"""A scene for the node: a textured square that moves to the right, a known way in each frame."""

import functools

import numpy as np

from sot_ros.geometry import Box

WIDTH, HEIGHT, SIDE = 480, 160, 40
STEP = 7
"""Pixels in one frame."""

_TEXTURE = np.kron(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8), np.ones((5, 5, 1), np.uint8))


def place(t: float) -> Box:
    """Where the square is on frame t, 0 to 57."""
    return Box(20.0 + STEP * t, 60.0, SIDE, SIDE)


@functools.lru_cache
def view(t: int) -> np.ndarray:
    """RGB frame t."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    image = np.stack([110 + 30 * np.sin(0.02 * (c + 1) * x + 0.03 * y + c) for c in range(3)], axis=-1).astype(np.uint8)
    left, top = int(place(t).x), int(place(t).y)
    image[top : top + SIDE, left : left + SIDE] = _TEXTURE
    return image
