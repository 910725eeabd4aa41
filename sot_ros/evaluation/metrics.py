"""OTB's metrics (Wu, Lim, Yang, "Object Tracking Benchmark", 2015) over arrays of boxes x, y, w, h, and what a
confidence is worth.

Rows of the ground truth that hold nan, where the target is absent, count nowhere.
"""

from __future__ import annotations

import numpy as np

SUCCESS_THRESHOLDS = np.linspace(0, 1, 21)


def ious(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of each of N pairs of boxes: (N, 4), (N, 4) -> (N,) in 0..1."""
    low = np.maximum(a[:, :2], b[:, :2])
    high = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    union = a[:, 2:].prod(axis=1) + b[:, 2:].prod(axis=1) - shared
    return shared / np.maximum(union, np.finfo(float).tiny)


def center_errors(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distance in pixels between the centres of each of N pairs of boxes: (N, 4), (N, 4) -> (N,)."""
    return np.linalg.norm(a[:, :2] + a[:, 2:] / 2 - b[:, :2] - b[:, 2:] / 2, axis=1)


def success_auc(boxes: np.ndarray, truth: np.ndarray) -> float:
    """Area under the success plot: the share of frames whose IoU is above a threshold, over 21 thresholds 0..1.

    A perfect result has 20/21, because no IoU is above 1.
    """
    known = ~np.isnan(truth).any(axis=1)
    overlap = ious(boxes[known], truth[known])
    return float(np.mean([np.mean(overlap > t) for t in SUCCESS_THRESHOLDS]))


def precision(boxes: np.ndarray, truth: np.ndarray, distance: float = 20) -> float:
    """Share of frames whose centre is at most `distance` pixels off."""
    known = ~np.isnan(truth).any(axis=1)
    return float(np.mean(center_errors(boxes[known], truth[known]) <= distance))


def roc_area(present: np.ndarray, absent: np.ndarray) -> float:
    """Area under the ROC: the chance that a confidence with the target there is above one without; ties are half.

    Without either, nan.
    """
    if not len(present) or not len(absent):
        return float("nan")
    below = np.searchsorted(np.sort(absent), present, "left") + np.searchsorted(np.sort(absent), present, "right")
    return float(below.mean() / 2 / len(absent))


def calibration(confidences: np.ndarray, right: np.ndarray, bins: int = 10) -> list[tuple[float, float, int]]:
    """For each of equal ranges of confidence that occurs: its mean, the share that was right, and their number."""
    number = np.minimum((confidences * bins).astype(int), bins - 1)
    chosen = [number == i for i in range(bins)]
    return [(float(confidences[c].mean()), float(right[c].mean()), int(c.sum())) for c in chosen if c.any()]
