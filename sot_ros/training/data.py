"""Objects to track, on images that are read when they are needed.

An object has an outline, so that it can be cut out and put before another background.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from sot_ros.evaluation.sequences import read_image
from sot_ros.geometry import Box


@dataclass(frozen=True)
class Instance:
    """One object on one image: its outline, polygons of (N, 2) points x, y in pixels; none where nothing is seen."""

    image: Path
    outline: tuple[np.ndarray, ...]

    @cached_property
    def box(self) -> Box:
        return enclosing_box(self.outline)


@dataclass(frozen=True)
class Track:
    """One object through time. Data sets have millions of instances, so these may be made only when asked for."""

    name: str
    instances: Sequence[Instance]


@dataclass(frozen=True)
class Boxes(Sequence):
    """Instances known by their boxes (N, 4), x, y, w, h."""

    images: list[Path]
    boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Instance:
        return Instance(self.images[i], (corners(*self.boxes[i]),))


@dataclass(frozen=True)
class Masks(Sequence):
    """Instances known by the pixels that have `value` in images of masks."""

    images: list[Path]
    masks: list[Path]
    value: int

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Instance:
        with Image.open(self.masks[i]) as mask:
            inside = np.array(mask) == self.value
        # Contours go through the middles of pixels: of smaller ones, they are nearer to the edge.
        fine = inside.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
        contours, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        return Instance(self.images[i], tuple((c.reshape(-1, 2) + np.float32(0.5)) / 2 for c in contours))


@dataclass(frozen=True)
class Source:
    """Objects of one data set, and how often they are drawn. Where there are no tracks, objects are invented on
    `unlabelled` images."""

    tracks: list[Track]
    unlabelled: list[Path]
    weight: float

    def images(self) -> Iterator[Path]:
        """Every image, some more than once."""
        yield from self.unlabelled
        for track in self.tracks:
            known = getattr(track.instances, "images", None)
            yield from known if known is not None else (i.image for i in track.instances)


def corners(x: float, y: float, w: float, h: float) -> np.ndarray:
    """A box as an outline: (4, 2)."""
    return np.float32([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])


def enclosing_box(outline: Iterable[np.ndarray]) -> Box:
    """The smallest box around all points; that of no points is empty."""
    points = np.concatenate([np.empty((0, 2), np.float32), *outline])
    if not len(points):
        return Box(0, 0, 0, 0)
    (x1, y1), (x2, y2) = points.min(0).tolist(), points.max(0).tolist()
    return Box(x1, y1, x2 - x1, y2 - y1)


class ImageStore:
    """Decoded images by path. As many of the sources' as `gigabytes` hold stay in memory; others are read each time."""

    def __init__(self, sources: list[Source], gigabytes: float):
        self.images: dict[Path, np.ndarray] = {}
        room = gigabytes * 1e9
        for path in tqdm((p for s in sources for p in s.images()), desc="images", unit="image"):
            if path not in self.images:
                image = read_image(path)
                room -= image.nbytes
                if room < 0:
                    break
                self.images[path] = image

    def __getitem__(self, path: Path) -> np.ndarray:
        image = self.images.get(path)
        return read_image(path) if image is None else image


def manifest(sources: list[Source], root: Path) -> str:
    """A line with name and size in bytes for each image, by which two trainings' data can be compared."""
    paths = sorted({p for s in sources for p in s.images()})
    return "".join(f"{p.relative_to(root)} {p.stat().st_size}\n" for p in paths)
