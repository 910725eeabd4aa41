"""A deterministic test clip in pure NumPy: one textured rectangle over a smooth background.

The target drifts to the lower right and grows, so late search regions leave the frame.
"""

import functools

import numpy as np

WIDTH, HEIGHT, FRAMES = 384, 288, 48


def box(t):
    """Ground truth of frame t as (x, y, w, h) in pixels, 0-indexed, top-left corner."""
    w, h = 44.0 + 0.5 * t, 36.0 + 0.35 * t
    cx = 96.0 + 4.6 * t + 6.0 * np.sin(0.31 * t)
    cy = 84.0 + 3.1 * t + 5.0 * np.cos(0.23 * t)
    return cx - w / 2, cy - h / 2, w, h


def frame(t):
    """RGB frame t as uint8 of shape (HEIGHT, WIDTH, 3), which the caller may change."""
    return _frame(t).copy()


@functools.cache
def _frame(t):
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    bx, by, bw, bh = box(t)
    u, v = (x - bx) / bw, (y - by) / bh
    inside = (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
    channels = []
    for c in range(3):
        waves = 34 * np.sin(0.021 * (c + 1) * x + 0.017 * y + c)
        background = 118 + waves + 27 * np.cos(0.043 * y - 0.011 * (c + 2) * x + 2 * c)
        checks = 62 * np.sin(7.0 * u + 3.0 * c) * np.cos(9.0 * v - c)
        texture = 128 + checks + 48 * np.sin(23.0 * u * v + 1.7 * c + 4.0 * v)
        channels.append(np.where(inside, texture, background))
    return np.clip(np.round(np.stack(channels, axis=-1)), 0, 255).astype(np.uint8)
