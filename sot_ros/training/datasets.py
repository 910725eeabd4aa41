"""Public data sets as they are handed around, read into tracks: one function for each layout.

Boxes and outlines are read at once, images and masks only when they are drawn.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sot_ros.evaluation.sequences import find_sequences
from sot_ros.training.data import Boxes, Instance, Masks, Source, Track, corners

IMAGE_TYPES = (".jpg", ".jpeg", ".png")


def read_coco(annotations: Path, images: Path) -> list[Track]:
    """COCO, COCO-VID and other tracks in COCO's JSON: `track_id` or `instance_id` joins annotations to a track, in the
    order of their images' `frame_id`; an annotation without is a track of its own.

    A track has the name of the folder that its images lie in. Crowds and masks in run lengths are left out.
    """
    content = json.loads(annotations.read_text())
    frames = {image["id"]: image for image in content["images"]}
    tracks = defaultdict(list)
    for a in content["annotations"]:
        polygons = a.get("segmentation") or [corners(*a["bbox"])]
        if a.get("iscrowd") or not isinstance(polygons, list):
            continue
        frame = frames[a["image_id"]]
        instance = Instance(images / frame["file_name"], tuple(np.float32(p).reshape(-1, 2) for p in polygons))
        number = a.get("track_id", a.get("instance_id"))
        key = ("annotation", a["id"]) if number is None else (frame.get("video_id"), number)
        tracks[key].append((frame.get("frame_id", 0), instance))
    ordered = ([i for _, i in sorted(track, key=lambda pair: pair[0])] for track in tracks.values())
    return [Track(instances[0].image.parent.name, instances) for instances in ordered]


def read_got10k(folder: Path) -> list[Track]:
    """GOT-10k's `train` or `val`: a folder for each sequence, with 00000001.jpg and so on, `groundtruth.txt`, and
    `absence.label`, which is 1 where the target is not seen."""
    tracks = []
    for truth in sorted(folder.glob("*/groundtruth.txt")):
        present = _numbers(truth.with_name("absence.label"))[:, 0] == 0
        frames = [truth.with_name(f"{i + 1:08d}.jpg") for i in range(len(present))]
        tracks += _track(truth.parent.name, frames, _boxes(truth, frames), present)
    return tracks


def read_lasot(folder: Path) -> list[Track]:
    """LaSOT: airplane/airplane-1/ and so on, with img/00000001.jpg, `groundtruth.txt` (1-indexed), and
    `full_occlusion.txt` and `out_of_view.txt`, which are 1 where the target is not seen."""
    tracks = []
    for truth in sorted(folder.glob("*/*/groundtruth.txt")):
        hidden = sum(_numbers(truth.with_name(f"{why}.txt")).ravel() for why in ("full_occlusion", "out_of_view"))
        frames = [truth.parent / "img" / f"{i + 1:08d}.jpg" for i in range(len(hidden))]
        tracks += _track(truth.parent.name, frames, _boxes(truth, frames) - (1, 1, 0, 0), hidden == 0)
    return tracks


def read_youtube_vos(folder: Path) -> list[Track]:
    """YouTube-VOS's `train`: JPEGImages/VIDEO/FRAME.jpg, Annotations/VIDEO/FRAME.png, and `meta.json`, which says on
    which frames each object is seen."""
    tracks = []
    for video, content in json.loads((folder / "meta.json").read_text())["videos"].items():
        for number, entry in content["objects"].items():
            images = [folder / "JPEGImages" / video / f"{frame}.jpg" for frame in entry["frames"]]
            masks = [folder / "Annotations" / video / f"{frame}.png" for frame in entry["frames"]]
            tracks.append(Track(video, Masks(images, masks, int(number))))
    return tracks


def read_sequences(folder: Path) -> list[Track]:
    """What `sot eval` takes: a folder with img/ and groundtruth_rect.txt (1-indexed), or a folder of such."""
    tracks = []
    for sequence in find_sequences(folder):
        present = ~np.isnan(sequence.truth).any(axis=1)
        tracks += _track(sequence.name, sequence.frames, sequence.truth, present)
    return tracks


def find_images(folder: Path) -> list[Path]:
    """Every JPEG and PNG file in a folder and those below it."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_TYPES)


READERS: dict[str, Callable[..., list[Track]]] = {
    "coco": read_coco,
    "got10k": read_got10k,
    "lasot": read_lasot,
    "youtube_vos": read_youtube_vos,
    "sequences": read_sequences,
}
"""Layouts that the data entries of a training file can name, besides `images` for images without annotations."""


def read_source(root: Path, entry: Mapping[str, Any]) -> Source:
    """One entry under `data` of a training file, without the tracks that it holds out.

    `layout` is a name in READERS or `images`; `folder`, or `annotations` and `images` for COCO, lie under `root`;
    `weight` says how often it is drawn; `hold_out` names tracks to leave out.
    """
    if entry["layout"] == "images":
        return Source([], find_images(_existing(root / entry["folder"])), entry["weight"])
    held_out = entry.get("hold_out", ())
    return Source([t for t in read_tracks(root, entry) if t.name not in held_out], [], entry["weight"])


def read_tracks(root: Path, entry: Mapping[str, Any]) -> list[Track]:
    """All tracks of an entry, those held out included; raises ValueError where there are none."""
    layout = entry["layout"]
    if layout not in READERS:
        raise ValueError(f"unknown layout '{layout}': known are images, {', '.join(READERS)}")
    folders = ("annotations", "images") if layout == "coco" else ("folder",)
    tracks = READERS[layout](*(_existing(root / entry[name]) for name in folders))
    if not tracks:
        raise ValueError(f"no tracks in {root / entry[folders[-1]]}: a folder in the layout of {layout} is accepted")
    return tracks


def _existing(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"training data {path} does not exist")
    return path


def _track(name: str, frames: list[Path], boxes: np.ndarray, present: np.ndarray) -> list[Track]:
    """The track of the frames that show the target; none where none does."""
    seen = [frame for frame, p in zip(frames, present, strict=True) if p]
    return [Track(name, Boxes(seen, boxes[present]))] if seen else []


def _boxes(file: Path, frames: list[Path]) -> np.ndarray:
    boxes = _numbers(file)
    if boxes.shape != (len(frames), 4):
        raise ValueError(f"{file} refused: {len(frames)} lines of four numbers x, y, w, h are accepted")
    return boxes


def _numbers(file: Path) -> np.ndarray:
    """The numbers of a text file, a row for each line."""
    lines = file.read_text().split("\n")
    try:
        return np.array([[float(n) for n in re.split(r"[,\s]+", line.strip())] for line in lines if line.strip()])
    except ValueError:
        raise ValueError(f"{file} refused: lines with the same count of numbers are accepted") from None
