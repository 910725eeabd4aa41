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
        return Instance(self.images[i], tuple(outlines(inside)))


@dataclass(frozen=True)
class Source:
    """Objects of one data set, and how often they are drawn. Where there are no tracks, objects are found or invented
    on `unlabelled` images."""

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


def find_object(image: np.ndarray, side: int = 128) -> tuple[np.ndarray, ...]:
    """The outline of what stands out from the margins of an image without annotations, (N, 2) pixels x, y; none where
    nothing does.

    GrabCut (Rother, Kolmogorov, Blake, 2004) on the image made as small as `side`: what looks like a margin of a
    twelfth is background. Taken is what is mostly in one piece and fills 6 to 60 % of the image.
    """
    scale = side / max(image.shape[:2])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    height, width = small.shape[:2]
    x, y = width // 12, height // 12
    if min(width - 2 * x, height - 2 * y) < 16:
        return ()
    labels = np.full((height, width), cv2.GC_BGD, np.uint8)
    labels[y : height - y, x : width - x] = cv2.GC_PR_FGD
    piece, share = cut_out(small, labels)
    if share < 0.8 or not 0.06 < piece.mean() < 0.6:
        return ()
    return tuple(outline / np.float32(scale) for outline in outlines(piece))


def cut_out(image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """The largest piece (H, W), a mask, of what GrabCut finds in an image by the first labels (H, W) of its pixels,
    cv2.GC_*; and the piece's share of all that is found, 0 where nothing is."""
    labels, models = labels.copy(), np.zeros((2, 1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(image, labels, None, *models, 4, cv2.GC_INIT_WITH_MASK)
    inside = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    inside = cv2.morphologyEx(inside, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, pieces, statistics, _ = cv2.connectedComponentsWithStats(inside)
    sizes = statistics[1:, cv2.CC_STAT_AREA]
    if not len(sizes):
        return np.zeros(labels.shape, bool), 0.0
    return pieces == 1 + sizes.argmax(), float(sizes.max() / sizes.sum())


def outlines(inside: np.ndarray) -> list[np.ndarray]:
    """The outer edges (N, 2) of what is True in (H, W), in pixels x, y."""
    # Contours go through the middles of pixels: of smaller ones, they are nearer to the edge.
    fine = inside.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [(c.reshape(-1, 2) + np.float32(0.5)) / 2 for c in contours]


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
