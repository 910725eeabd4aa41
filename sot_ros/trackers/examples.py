"""What a tracker's functions are given for one target, to try, time, export and compare them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from sot_ros.geometry import Box
from sot_ros.trackers.base import Tracker


def example_inputs(tracker: Tracker) -> dict[str, tuple[Tensor, ...]]:
    """What `embed` and `compute` are given for one target, on the tracker's device."""
    given = {}

    def record(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(*inputs: Tensor) -> Any:
            given[name] = tuple(x.clone() for x in inputs)
            return function(*inputs)

        return recorded

    sibling = tracker.sibling()
    sibling.faster = None
    for name in ("embed", "compute"):
        setattr(sibling, name, record(name, getattr(tracker, name)))
    image = example_image()
    sibling.initialize(image, Box(140, 100, 40, 40))
    sibling.track(image)
    return given


def example_image() -> np.ndarray:
    """(240, 320, 3) uint8: blots of many colours, as smooth as an image of things is."""
    blots = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    return cv2.resize(blots, (320, 240), interpolation=cv2.INTER_CUBIC)


def deviation(expected: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """How far outputs are from others, in shares of the largest value of each; indices are not compared."""
    pairs = zip(*([x.double() for x in o if x.is_floating_point()] for o in (expected, found)), strict=True)
    return max(float((a - b).abs().max() / a.abs().max().clamp(min=1e-9)) for a, b in pairs)
