"""Annotated sequences, and one pass of a tracker over them."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import cv2
import numpy as np

from sot_ros.evaluation.metrics import precision, success_auc
from sot_ros.geometry import Box
from sot_ros.trackers.base import Tracker

GROUND_TRUTH = "groundtruth_rect.txt"


@dataclass(frozen=True)
class Sequence:
    """A clip with the target's box on every frame: (N, 4) x, y, w, h, 0-indexed pixels, nan where it is absent."""

    name: str
    frames: list[Path]
    truth: np.ndarray


@dataclass(frozen=True)
class Result:
    """What a tracker made of a sequence: boxes (N, 4), confidences (N,), and seconds for each `track` (N - 1,)."""

    sequence: Sequence
    boxes: np.ndarray
    confidences: np.ndarray
    seconds: np.ndarray

    @property
    def auc(self) -> float:
        return success_auc(self.boxes, self.sequence.truth)

    @property
    def precision(self) -> float:
        return precision(self.boxes, self.sequence.truth)

    @property
    def fps(self) -> float:
        """Frames in a second by the median time for one; reading the image does not count."""
        return 1 / float(np.median(self.seconds))


def read_sequence(folder: Path) -> Sequence:
    """A folder in OTB's layout: `img/` with the frames and groundtruth_rect.txt.

    The file has one line x, y, w, h for each frame, 1-indexed, separated by commas, tabs or blanks. Raises
    ValueError with the reason for a folder that cannot be evaluated.
    """
    frames = sorted(p for p in (folder / "img").iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    lines = [line for line in (folder / GROUND_TRUTH).read_text().splitlines() if line.strip()]
    try:
        truth = np.array([[float(n) for n in re.split(r"[,\s]+", line.strip())] for line in lines])
    except ValueError:
        truth = np.empty(0)
    if truth.ndim != 2 or truth.shape[1] != 4:
        raise ValueError(f"{folder / GROUND_TRUTH} refused: four numbers x, y, w, h on each line are accepted")
    if len(truth) != len(frames):
        raise ValueError(f"{folder} refused: {len(frames)} frames but {len(truth)} lines in {GROUND_TRUTH}")
    if not frames or np.isnan(truth[0]).any():
        raise ValueError(f"{folder} refused: the first frame needs a box")
    return Sequence(folder.name, frames, truth - (1, 1, 0, 0))


def find_sequences(root: Path) -> list[Sequence]:
    """The sequence that `root` is, or all that lie in it; raises ValueError if there is none."""
    folders = [p.parent for p in sorted([*root.glob(GROUND_TRUTH), *root.glob(f"*/{GROUND_TRUTH}")])]
    if not folders:
        raise ValueError(f"no sequences in {root}: folders with img/ and {GROUND_TRUTH} are accepted")
    return [read_sequence(folder) for folder in folders]


def both_ways(sequences: list[Sequence]) -> list[Sequence]:
    """Each sequence, and after it the same with time reversed."""
    return [way for s in sequences for way in (s, Sequence(f"{s.name} backwards", s.frames[::-1], s.truth[::-1]))]


def every(n: int, sequences: list[Sequence]) -> list[Sequence]:
    """Each sequence as a camera with an n-th of the rate would show it: the first frame, and every n-th after it.

    Raises ValueError where one of them would be left with its first frame alone; 1 is always accepted.
    """
    most = max(1, min(len(s.frames) for s in sequences) - 1)
    if not 1 <= n <= most:
        raise ValueError(f"every {n} refused: 1 to {most} are accepted, for each sequence needs two frames")
    return [Sequence(s.name, s.frames[::n], s.truth[::n]) for s in sequences]


def read_image(path: Path) -> np.ndarray:
    """An image file as (H, W, 3) uint8 RGB; raises ValueError for what is no image."""
    image = cv2.imread(str(path))
    if image is None:
        raise ValueError(f"image {path} cannot be read")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def disturbed_starts(box: np.ndarray) -> list[np.ndarray]:
    """The first boxes of OTB's spatial robustness evaluation (SRE; Wu, Lim, Yang, 2015) for a true one, x, y, w, h.

    Four are moved to a side and four to a corner, by a tenth of the target's size; four are 0.8 to 1.2 times as large.
    """
    moved = [(0.1 * dx, 0.1 * dy, 1.0) for dx, dy in product((-1, 0, 1), repeat=2) if (dx, dy) != (0, 0)]
    w, h = box[2:]
    cx, cy = Box(*box).center
    return [
        np.array(Box.from_center(cx + dx * w, cy + dy * h, scale * w, scale * h))
        for dx, dy, scale in [*moved, *((0, 0, scale) for scale in (0.8, 0.9, 1.1, 1.2))]
    ]


def evaluate(tracker: Tracker, sequence: Sequence, start: np.ndarray | None = None) -> Result:
    """One pass: initialised on the first frame, by the true box or by `start`, and never again. There, the true box
    counts as the result."""
    boxes, confidences, seconds = [sequence.truth[0]], [1.0], []
    for i, path in enumerate(sequence.frames):
        image = read_image(path)
        if i == 0:
            tracker.initialize(image, sequence.truth[0] if start is None else start)
            continue
        begin = time.perf_counter()
        box, confidence = tracker.track(image)
        seconds.append(time.perf_counter() - begin)
        boxes.append(box)
        confidences.append(confidence)
    return Result(sequence, np.array(boxes), np.array(confidences), np.array(seconds))
