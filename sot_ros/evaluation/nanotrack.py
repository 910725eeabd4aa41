"""NanoTrack as OpenCV runs it: what a small tracker has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from sot_ros.geometry import Box
from sot_ros.trackers.base import Estimate

BACKBONE, HEAD = "nanotrack_backbone_sim.onnx", "nanotrack_head_sim.onnx"


class NanoTrack:
    """NanoTrackV2 with OpenCV's own pipeline and settings, to be run by `evaluate` beside ours.

    `folder` holds the two files of NanoTrack/models/nanotrackv2 in github.com/HonglinChu/SiamTrackers.
    """

    def __init__(self, folder: Path):
        paths = [folder / BACKBONE, folder / HEAD]
        if not all(p.is_file() for p in paths):
            raise FileNotFoundError(f"NanoTrack needs {BACKBONE} and {HEAD}: they are not in {folder}")
        parameters = cv2.TrackerNano_Params()
        parameters.backbone, parameters.neckhead = map(str, paths)
        self.tracker = cv2.TrackerNano_create(parameters)

    def initialize(self, image: np.ndarray, box: Sequence[float]) -> None:
        """Take what `box` (x, y, w, h), which OpenCV wants in whole pixels, holds on an RGB image as the target."""
        self.tracker.init(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [round(float(v)) for v in box])

    def track(self, image: np.ndarray) -> Estimate:
        _, box = self.tracker.update(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        return Estimate(Box(*map(float, box)), float(self.tracker.getTrackingScore()))
