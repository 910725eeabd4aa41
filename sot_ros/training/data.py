"""Annotated and unlabelled images as objects to track, and where they are read from.

An object has an outline, so that it can be cut out and put before another background.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from sot_ros.evaluation.sequences import read_image
from sot_ros.geometry import Box

IMAGE_TYPES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Instance:
    """One object on one image: its outline, polygons of (N, 2) points x, y in pixels."""

    image: Path
    outline: tuple[np.ndarray, ...]

    @property
    def box(self) -> Box:
        return enclosing_box(self.outline)


@dataclass(frozen=True)
class Source:
    """Objects of one data set, and how often they are drawn.

    Each track is a list of instances of one object. Where there are no tracks, objects are invented on `images`.
    """

    tracks: list[list[Instance]]
    images: list[Path]
    weight: float


def read_source(root: Path, entry: Mapping[str, Any], smallest: float = 12) -> Source:
    """One entry under `data` of a training file.

    `images` is a folder under `root`; `annotations` a COCO-style JSON file, whose `track_id` joins annotations to
    tracks; `hold_out` lists folders in `images` to leave out. Objects below `smallest` pixels, the square root of
    the box's area, are left out.
    """
    folder = root / entry["images"]
    if not folder.is_dir():
        raise FileNotFoundError(f"training images {folder} do not exist")
    if "annotations" not in entry:
        found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_TYPES)
        return Source([], found, entry["weight"])
    held_out = set(entry.get("hold_out", ()))
    tracks = [t for t in read_tracks(root / entry["annotations"], folder) if folder_of(t) not in held_out]
    tracks = [[i for i in t if i.box.w * i.box.h >= smallest**2] for t in tracks]
    tracks = [t for t in tracks if t]
    return Source(tracks, sorted({i.image for t in tracks for i in t}), entry["weight"])


def read_tracks(annotations: Path, folder: Path) -> list[list[Instance]]:
    """The tracks of a COCO-style file in order of time; an annotation without `track_id` is a track of its own."""
    content = json.loads(annotations.read_text())
    images = {image["id"]: image for image in content["images"]}
    tracks = defaultdict(list)
    for a in content["annotations"]:
        x, y, w, h = a["bbox"]
        polygons = a.get("segmentation") or [[x, y, x + w, y, x + w, y + h, x, y + h]]
        if a.get("iscrowd") or not isinstance(polygons, list):
            continue
        outline = tuple(np.float32(p).reshape(-1, 2) for p in polygons)
        image = images[a["image_id"]]
        instance = Instance(folder / image["file_name"], outline)
        tracks[a.get("track_id", f"annotation {a['id']}")].append((image.get("frame_id", 0), instance))
    return [[i for _, i in sorted(track, key=lambda pair: pair[0])] for track in tracks.values()]


def folder_of(track: list[Instance]) -> str:
    return track[0].image.parent.name


def enclosing_box(outline: Iterable[np.ndarray]) -> Box:
    """The smallest box around all points."""
    points = np.concatenate(list(outline))
    (x1, y1), (x2, y2) = points.min(0).tolist(), points.max(0).tolist()
    return Box(x1, y1, x2 - x1, y2 - y1)


def load_images(sources: list[Source]) -> dict[Path, np.ndarray]:
    """All images of the sources, decoded, kept in memory: about 0.5 MB each at 448 x 336."""
    paths = sorted({p for s in sources for p in s.images})
    return {path: read_image(path) for path in tqdm(paths, desc="images", unit="image")}


def manifest_hash(sources: list[Source], root: Path) -> str:
    """SHA-256 over the names and sizes of all training images: tells whether two trainings saw the same data."""
    paths = sorted({p for s in sources for p in s.images})
    lines = "".join(f"{p.relative_to(root)} {p.stat().st_size}\n" for p in paths)
    return hashlib.sha256(lines.encode()).hexdigest()
